"""An operand in each format of the ladder, kept compact; and mixed, where a step of the ladder is taken in part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dmx.kernels.ladder import mix, narrow
from dmx.quantisers import fake_quantize, shared_threads


class Ladder:
    """One operand. Float32 on a CPU is mixed by compiled loops, in one pass and without copies; all else by torch's operations."""

    def __init__(self, values: Sequence[torch.Tensor]) -> None:
        """Args: values: the operand in each format, of one shape; any of them compact."""
        self.values = tuple(values)

    def mixed(self, degrees: Sequence[float], dtype: torch.dtype | None = None) -> torch.Tensor:
        """The operand at the given degrees.

        Args: degrees: of each step, falling.  dtype: of the result, where values are kept compact.
        A degree of exactly 1 restarts from the upper format's own value and one of 0 adds nothing, so that a vertex is exact.
        """
        place = max((j + 1 for j, degree in enumerate(degrees) if degree == 1.0), default=0)
        parts = [(j, degree) for j, degree in enumerate(degrees) if j >= place and degree > 0.0]
        wanted = self.values[place].dtype if dtype is None else dtype
        between = self.values[place]
        if parts and wanted == torch.float32 and self._flat is not None:
            mixture = torch.empty(between.shape, dtype=wanted)
            with shared_threads(mixture.numel()):
                mix(self._flat, np.array(degrees, np.float32), place, _flat(mixture))
            return mixture
        between = between.to(wanted)
        for j, degree in parts:
            low, high = self.values[j].to(wanted), self.values[j + 1].to(wanted)
            between = torch.lerp(low, high, degree) if j == place else (high - low).mul_(degree).add_(between)
        return between

    def products(self, gradient: torch.Tensor) -> torch.Tensor:
        """(formats - 1,) <gradient, high - low> of each step: the loss's gradient by its degree. Args: gradient: of the values' shape."""
        gradient = gradient.reshape(-1)
        wide = torch.empty_like(gradient)
        values = [value.reshape(-1) for value in self.values]
        against = torch.stack([torch.dot(gradient, v if v.dtype == gradient.dtype else wide.copy_(v)) for v in values])
        return against[1:] - against[:-1]

    @cached_property
    def _flat(self) -> tuple[npt.NDArray[Any], ...] | None:
        """The values as the compiled loops read them; None where they do not."""
        kinds = {value.dtype for value in self.values}
        if any(value.device.type != "cpu" for value in self.values) or not kinds <= {torch.float32, torch.bfloat16}:
            return None
        return tuple(_flat(value if len(kinds) == 1 else value.float()) for value in self.values)


def compact(value: torch.Tensor) -> torch.Tensor:
    """The same numbers as bfloat16 where that holds every one, as it does an MX format's unless they are subnormal; else as they are."""
    if value.dtype != torch.float32:
        return value
    if value.device.type == "cpu":
        halves = torch.empty(value.shape, dtype=torch.bfloat16)
        return halves if narrow(_flat(value), _flat(halves)) else value
    halves = value.to(torch.bfloat16)
    return halves if torch.equal(halves.float(), value) else value


def weight_ladder(weight: torch.Tensor, stored: torch.dtype | None, formats: Sequence[str], policy: str) -> Ladder:
    """A weight in each format, compact. Args: stored: the dtype that its checkpoint has it in, where that is another."""
    source = weight if stored is None else weight.to(stored)
    return Ladder([compact(fake_quantize(source, format, policy).to(weight.dtype)) for format in formats])


def _flat(value: torch.Tensor) -> npt.NDArray[Any]:
    """(n,) the same memory: float32, or a bfloat16's bits."""
    flat = value.reshape(-1)
    return flat.view(torch.uint16).numpy() if flat.dtype == torch.bfloat16 else flat.numpy()
