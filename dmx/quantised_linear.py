"""An assignment on a live module: weights take their format's values, inputs are quantised as they arrive; all of it can be undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from dmx.errors import DmxError
from dmx.last_input import LastInput
from dmx.live_modules import AsFound
from dmx.models import LoadedModel, load_model
from dmx.quantisers import fake_quantize
from mxsim.assignment import Assignment
from mxsim.storage_formats import FormatPair


class InputQuantiser:
    """Quantises inputs; linears that share one (q, k and v; gate and up) share the work."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._values = LastInput[torch.Tensor]()

    def __call__(self, x: torch.Tensor, format: str) -> torch.Tensor:
        return self._values.made(x, format, lambda: fake_quantize(x, format, self.policy))

    def forget(self) -> None:
        """Let go of the last input."""
        self._values.forget()


class Applied:
    """A module under an assignment. undo() or leaving the context gives the module back as it was."""

    def __init__(
        self,
        linears: Mapping[str, nn.Linear],
        assignment: Assignment,
        stored_dtypes: Mapping[str, torch.dtype],
        found: AsFound | None = None,
    ) -> None:
        """Args: found: the module before it was loaded, to be given back so."""
        self.assignment, self._found = assignment, found or AsFound(None)
        self._inputs = InputQuantiser(assignment.policy)
        # Parameters, not their values, are exchanged: linears may share one.
        self._quantised: dict[nn.Linear, torch.Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._active = True
        for name, pair in assignment.layers.items():
            weight = linears[name].weight.detach()
            values = fake_quantize(weight.to(stored_dtypes.get(name, weight.dtype)), pair.weight, assignment.policy)
            self._quantised[linears[name]] = nn.Parameter(values.to(weight.dtype), requires_grad=False)
        self._originals: dict[nn.Linear, torch.Tensor] = {linear: linear.weight for linear in self._quantised}
        try:
            for name, pair in assignment.layers.items():
                linears[name].weight = self._quantised[linears[name]]
                self._handles.append(linears[name].register_forward_pre_hook(self._hook(pair)))
        except BaseException:
            self.undo()
            raise

    def _hook(self, pair: FormatPair) -> Any:
        def quantise_input(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            if not self._active:
                return None
            return (self._inputs(args[0], pair.activation), *args[1:])

        return quantise_input

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The float model, for the time of the block."""
        self._active = False
        for linear, weight in self._originals.items():
            linear.weight = weight
        try:
            yield
        finally:
            self._active = True
            for linear, weight in self._quantised.items():
                linear.weight = weight

    def undo(self) -> None:
        """Give the module its weights back and take the hooks off. A second call does nothing."""
        for handle in self._handles:
            handle.remove()
        for linear, weight in self._originals.items():
            linear.weight = weight
        self._handles, self._originals, self._quantised = [], {}, {}
        self._inputs.forget()
        self._found.restore()

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.undo()


def apply(model: LoadedModel | nn.Module, assignment: Assignment) -> Applied:
    """Put a live module under an assignment, in place.

    Args: model: a loaded model, or a live transformers module.  assignment: layers named as in the module.
    Returns: Applied, whose undo() restores every bit; it is a context manager too.
    Raises: DmxError where a layer of the assignment is not a linear of the module.
    """
    with ExitStack() as unless_applied:
        found = unless_applied.enter_context(AsFound(model))
        loaded = load_model(model)
        check_fits(loaded, assignment)
        applied = Applied(loaded.linears, assignment, loaded.stored_dtypes, found)
        unless_applied.pop_all()
    return applied


def check_fits(model: LoadedModel, assignment: Assignment) -> None:
    """Raises: DmxError where the assignment names layers that the model does not have, or was searched on other weights."""
    linears = model.linears
    foreign = [name for name in assignment.layers if name not in linears]
    if foreign:
        raise DmxError(
            f"the assignment was made for another model: {len(foreign)} of its {len(assignment.layers)} layers, such as {foreign[0]!r}, "
            f"are not linears of {model.name!r}, whose first is {next(iter(linears))!r}"
        )
    searched = assignment.search.get("model") or {}
    if not isinstance(searched, Mapping):
        raise DmxError(f'the assignment\'s "search" says of its model {searched!r}: {{"name", "sha256"}} is expected, or nothing')
    if searched.get("sha256") not in (None, model.sha256):
        raise DmxError(
            f"the assignment was made for {searched.get('name')!r} with other weights than {model.name!r} has: search again; "
            'or take "search" out of it, to use it all the same'
        )


def read_assignment(model: LoadedModel, assignment: Assignment | str | Path) -> Assignment:
    """An assignment that fits a model. One from a file says of every linear what it takes, or that it is skipped.

    Raises: DmxError where it was made for another model; MxsimError for a file that cannot be read.
    """
    chosen = assignment if isinstance(assignment, Assignment) else Assignment.load(assignment)
    check_fits(model, chosen)
    told = {*chosen.layers, *chosen.skipped}
    silent = [name for name in model.linears if name not in told]
    if silent and chosen is not assignment:
        raise DmxError(
            f"the assignment says nothing of {len(silent)} linears of {model.name!r}, such as {silent[0]!r}: it was made for another "
            'model; or name them among its "skipped", where they are to stay as they are'
        )
    return chosen
