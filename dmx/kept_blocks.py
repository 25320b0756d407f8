"""What blocks of layers put out, kept from one choice of formats to the next: those before the first change need not be computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from dmx.live_modules import Forwards

Found = TypeVar("Found")

#: What may be kept in all; beyond it deeper blocks are computed anew.
KEPT_BYTES = 1 << 28


class KeptBlocks:
    """The outputs of a model's blocks under one choice, the reference, on each of several inputs, as far as they have been seen.

    A block is an item of the module list that holds all searched linears, as in every decoder of transformers; each takes what the one
    before it put out. Whether nothing else passes between them is tried: the first losses that rest on the outputs of so many blocks are
    held against losses that rest on none, and where they differ, or there are none, nothing is kept from then on.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str], inputs: int) -> None:
        """Args: layers: the searched linears, in the order of degrees.  inputs: how many there are."""
        self._blocks, self._block_of = blocks_of(module, layers)
        self._reference: torch.Tensor | None = None
        self._kept: dict[int, list[Any]] = {}  #: of each input, block after block
        self._bytes = 0
        self._tried: set[int] = set()  #: how many blocks
        self._inputs = inputs
        self._last: int | None = None  #: the input seen last: a model that remembers it would seem to do without the blocks

    def refer_to(self, degrees: torch.Tensor) -> None:
        """Make a choice the reference; of the last one's outputs those stay that it has in common. Args: (linears, 2, formats - 1)."""
        common = self._common(degrees)
        for outputs in self._kept.values():
            self._bytes -= sum(map(_bytes, outputs[common:]))
            del outputs[common:]
        self._reference = degrees

    def run(self, degrees: torch.Tensor, place: int, measured: Callable[[], Found]) -> Found:
        """What is measured of the module at these degrees on the input of a number, without the blocks that are known."""
        common = self._common(degrees)
        outputs = self._kept.setdefault(place, [])
        known = min(common, len(outputs))
        found: Found | None = None
        with self._kept_forwards(outputs, known, min(common, len(self._blocks) - 1)):
            try:
                found = measured()
            except Exception:  # of whatever kind, where it may be for want of the blocks: then the whole model says
                if not known:
                    raise
        if found is None or (known and known not in self._tried):
            anew = measured()
            if anew != found:
                self._blocks, self._kept, self._bytes = [], {}, 0
                return anew
            if place != self._last or self._inputs == 1:
                self._tried.add(known)
        self._last = place
        return found

    def _common(self, degrees: torch.Tensor) -> int:
        """How many blocks from the first have the reference's degrees."""
        if self._reference is None or not self._blocks:
            return 0
        changed = (degrees != self._reference).flatten(1).any(1).nonzero().flatten().tolist()
        return min((self._block_of[i] for i in changed), default=len(self._blocks))

    @contextmanager
    def _kept_forwards(self, outputs: list[Any], known: int, keep: int) -> Iterator[None]:
        """For a while the first blocks put out what is known, and those after them, up to the keep-th, add to it."""
        forwards: list[Callable[..., Any]] = [block.forward for block in self._blocks[: max(known, keep)]]

        def forward_of(i: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                if i < known:
                    return outputs[i]
                output = forwards[i](*args, **kwargs)
                if len(outputs) == i and self._bytes + _bytes(output) <= KEPT_BYTES:
                    outputs.append(output)
                    self._bytes += _bytes(output)
                return output

            return forward

        replaced = Forwards()
        for i in range(len(forwards)):
            replaced.replace(self._blocks[i], forward_of(i))
        try:
            yield
        finally:
            replaced.restore()


def blocks_of(module: nn.Module, layers: Sequence[str]) -> tuple[list[nn.Module], list[int]]:
    """The blocks that hold all these linears between them, and the number of each linear's; no blocks where there is no such list."""
    lists: Mapping[str, nn.ModuleList] = {name: one for name, one in module.named_modules() if isinstance(one, nn.ModuleList)}
    for name, blocks in lists.items():
        prefix = f"{name}."
        if all(layer.startswith(prefix) for layer in layers):
            return list(blocks), [int(layer[len(prefix) :].split(".")[0]) for layer in layers]
    return [], []


def _bytes(output: Any) -> int:
    """What a block's output, a tensor or several, takes."""
    parts = output if isinstance(output, tuple) else (output,)
    return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))
