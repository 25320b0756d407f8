"""What pulls a relaxed search to its budgets: expected costs that are exact at a vertex, and the pressure that an excess makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from dmx.budget import Constraint
from dmx.decisions import DecisionSpace

#: A penalty's strength is per bit; other budgets are measured in quarters of their range, as MXFP4 to MXFP8 spans four bits.
BITS_OF_A_RANGE = 4.0
SHIFT_RANGE = 4.0
#: Each round cuts what is left of the range into so many parts, a power of two: 24 halvings in all.
SHIFT_ROUNDS, SHIFT_PARTS = 4, 64


def place_probabilities(degrees: torch.Tensor) -> torch.Tensor:
    """(..., formats - 1) falling degrees -> (..., formats) shares that sum to 1: of being at each place on the ladder."""
    ones, zeros = torch.ones_like(degrees[..., :1]), torch.zeros_like(degrees[..., :1])
    padded = torch.cat([ones, degrees, zeros], -1)
    return padded[..., :-1] - padded[..., 1:]


class ExpectedCosts:
    """The expected cost of each budget under degrees, as shares of its limit; at degrees of 0 and 1 the discrete cost."""

    def __init__(self, space: DecisionSpace, constraints: Sequence[Constraint]) -> None:
        self.space = space
        self.costs = torch.stack([torch.from_numpy(one.costs / one.limit) for one in constraints])
        self.fixed = torch.tensor([one.fixed / one.limit for one in constraints], dtype=torch.float64)

    def __call__(self, degrees: torch.Tensor) -> torch.Tensor:
        """(..., decisions, 2 or 1, formats - 1) degrees of weights and inputs (or of both) -> (..., constraints) float64."""
        places = place_probabilities(degrees.double())
        if self.space.apart:
            pairs = torch.einsum("...dw,...da->...dwa", places[..., 0, :], places[..., 1, :]).flatten(-2)
        else:
            pairs = places[..., 0, :]
        return self.fixed + torch.einsum("cdp,...dp->...c", self.costs, pairs)


class Steering:
    """The pressure to add to the loss, step by step."""

    def __init__(
        self, kind: str, strength: float, constraints: Sequence[Constraint], prices: npt.NDArray[np.float64], floor: float
    ) -> None:
        self.kind = kind
        #: A penalty's strength per share of the limit: one bit is this share of it.
        self.strengths = torch.tensor(
            [
                strength * BITS_OF_A_RANGE * one.limit / ((one.dearest - one.cheapest) or one.limit)
                if one.budget.kind != "bits"
                else strength * one.limit
                for one in constraints
            ],
            dtype=torch.float64,
        )
        self._floor = floor
        self.prices = torch.from_numpy(np.maximum(prices, floor))

    def pressure(self, spent: torch.Tensor) -> torch.Tensor:
        """What to add to the loss. Args: spent: (constraints,) shares of the limits, with their graph."""
        excess = spent - 1
        if self.kind == "lagrangian":
            return (self.prices * excess).sum()
        if self.kind == "two_sided":
            return (self.strengths * excess.abs()).sum()
        return (self.strengths * excess.clamp_min(0)).sum()

    def follow(self, prices: npt.NDArray[np.float64]) -> None:
        """Take the budgets' shadow prices at the newest gradients."""
        self.prices = torch.from_numpy(np.maximum(prices, self._floor))

    def shift(self, expected: ExpectedCosts, degrees_at: Callable[[torch.Tensor], torch.Tensor]) -> float:
        """How far to lower all offsets together, so that the budget spent the most is spent to the end; by bisection.

        Shifts for several halvings are looked at together. Args: degrees_at: (shifts,) float64 -> (shifts, decisions, ...), the degrees
        when all offsets are lowered by each.
        """
        if self.kind != "lagrangian":
            return 0.0
        low, width = -SHIFT_RANGE, 2 * SHIFT_RANGE
        for _ in range(SHIFT_ROUNDS):
            width /= SHIFT_PARTS  # a power of two: every shift is exact
            between = low + width * torch.arange(1, SHIFT_PARTS, dtype=torch.float64)
            exceeds = (expected(degrees_at(between)).amax(-1) > 1).tolist()
            first, last = 0, SHIFT_PARTS
            while last - first > 1:
                middle = (first + last) // 2
                first, last = (middle, last) if exceeds[middle - 1] else (first, middle)
            low += width * first
        return low + width
