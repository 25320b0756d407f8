"""An assignment computed by a matrix unit's own bits: every assigned linear is mxsim.matmul of quantised input and weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import mxsim
from dmx.last_input import LastInput
from dmx.live_modules import AsFound, Forwards
from dmx.models import LoadedModel, load_model
from dmx.quantised_linear import check_fits
from dmx.quantisers import as_numpy
from mxsim.assignment import Assignment
from mxsim.storage_formats import WIDE
from mxsim.tensor import MXTensor
from mxsim.units.spec import MatmulUnit

Operand = MXTensor | npt.NDArray[Any]


def quantised_operand(x: torch.Tensor, format: str, policy: str) -> Operand:
    """(rows, K) -> an MX tensor blocked along K; a bfloat16 array for the wide type."""
    values = as_numpy(x)
    if format == WIDE:
        return values.astype(ml_dtypes.bfloat16)
    return mxsim.quantize(values, format, policy=policy)


def operand_values(operand: Operand) -> npt.NDArray[np.float32]:
    """The numbers that an operand stands for."""
    return operand.dequantize() if isinstance(operand, MXTensor) else operand.astype(np.float32)


class UnitApplied:
    """A module whose assigned linears are computed by a unit. undo() or leaving the context gives the module back as it was.

    Weights are quantised once. The bias is added in float32 to the unit's output. Gradients do not flow.
    """

    def __init__(
        self,
        linears: Mapping[str, nn.Linear],
        assignment: Assignment,
        unit: MatmulUnit,
        stored_dtypes: Mapping[str, torch.dtype],
        found: AsFound | None = None,
    ) -> None:
        """Args: found: the module before it was loaded, to be given back so."""
        self.assignment, self.unit, self._found = assignment, unit, found or AsFound(None)
        self._forwards = Forwards()
        self._computed: dict[nn.Linear, Callable[[torch.Tensor], torch.Tensor]] = {}
        self._operands = LastInput[Operand]()
        self._squares = {"difference": 0.0, "fake": 0.0}
        for pair in assignment.layers.values():
            unit.path_for(pair.activation, pair.weight)
        for name, pair in assignment.layers.items():
            linear = linears[name]
            weight = linear.weight.detach()
            operand = quantised_operand(weight.to(stored_dtypes.get(name, weight.dtype)), pair.weight, assignment.policy)
            self._computed[linear] = self._by_unit(operand, pair.activation, linear.bias)
        self._compute()

    def _compute(self) -> None:
        for linear, computed in self._computed.items():
            self._forwards.replace(linear, computed)

    def _by_unit(self, weight: Operand, format: str, bias: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
        values = operand_values(weight)
        offset = None if bias is None else bias.detach().float()

        def forward(x: torch.Tensor) -> torch.Tensor:
            operand = self._operand(x, format)
            product = mxsim.matmul(operand, weight.T, unit=self.unit)
            self._compare(product, operand_values(operand) @ values.T)
            out = torch.from_numpy(product).to(x.device)
            out = out if offset is None else out + offset
            return out.to(x.dtype).reshape(*x.shape[:-1], out.shape[-1])

        return forward

    def _operand(self, x: torch.Tensor, format: str) -> Operand:
        """Linears that share an input share its quantised form."""
        return self._operands.made(
            x, format, lambda: quantised_operand(x.detach().reshape(-1, x.shape[-1]), format, self.assignment.policy)
        )

    def _compare(self, product: npt.NDArray[np.float32], fake: npt.NDArray[np.float32]) -> None:
        difference = product.astype(np.float64) - fake
        self._squares["difference"] += float(np.square(difference).sum())
        self._squares["fake"] += float(np.square(fake, dtype=np.float64).sum())

    @property
    def relative_difference(self) -> float:
        """The unit's outputs against float32 products of the same quantised operands: root of the summed squares, relative. NaN before
        any output."""
        fake = self._squares["fake"]
        return math.sqrt(self._squares["difference"] / fake) if fake else math.nan

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The float model, for the time of the block."""
        self._forwards.restore()
        try:
            yield
        finally:
            self._compute()

    def undo(self) -> None:
        """Give the module its own arithmetic back. A second call does nothing."""
        self._forwards.restore()
        self._computed = {}
        self._operands.forget()
        self._found.restore()

    def __enter__(self) -> UnitApplied:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.undo()


def apply_unit(
    model: LoadedModel | nn.Module, assignment: Assignment, unit: str | Path | MatmulUnit, promote_every: int | None = None
) -> UnitApplied:
    """Put a live module under an assignment, its linears computed by a unit, in place.

    Args: unit: a name of mxsim.UNITS, a unit's TOML file, or the unit.  promote_every: it starts from zero every so many elements of K and
        its results are added up in FP32, as kernels without fast accumulation do.
    Raises: DmxError where a layer of the assignment is not a linear of the module; MxsimError where the unit does not take a pair.
    """
    from mxsim.units.toml import load_unit

    described = unit if isinstance(unit, MatmulUnit) else load_unit(unit)
    if promote_every is not None:
        described = described.promoted(promote_every)
    with ExitStack() as unless_applied:
        found = unless_applied.enter_context(AsFound(model))
        loaded = load_model(model)
        check_fits(loaded, assignment)
        applied = UnitApplied(loaded.linears, assignment, described, loaded.stored_dtypes, found)
        unless_applied.pop_all()
    return applied
