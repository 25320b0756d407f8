"""What pulls a relaxed search to its budgets: expected costs that are exact at a vertex, the pressure that an excess makes, the landing.

Costs need not rise along the ladder: MXFP4 with itself can run through a dearer path than MXFP8. Where higher formats cost no more, no pair
below them is worth taking, and lowering offsets would save nothing: such pairs are lifted first, and costs that rise are left.
"""

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


def lifts(space: DecisionSpace, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The pair to take in place of each: the cheapest with neither format lower and no cost higher; of equals the highest.

    Args: costs: (constraints, decisions, pairs), as shares of the limits.  Returns: (decisions, pairs) indices of pairs.
    """
    rungs = np.array([space.rungs(pair) for pair in range(len(space.pairs))])
    serves = (rungs[:, None] <= rungs).all(-1) & (costs[:, :, None] <= costs[..., None]).all(0)
    total = np.where(serves, costs.sum(0)[:, None], np.inf)
    is_cheapest = total == total.min(-1, keepdims=True)
    return np.asarray(np.where(is_cheapest, rungs.sum(-1), -1).argmax(-1), np.int64)


class ExpectedCosts:
    """The expected cost of each budget under degrees, as shares of its limit; at degrees of 0 and 1 that of the lifted pairs."""

    def __init__(self, space: DecisionSpace, constraints: Sequence[Constraint]) -> None:
        self.space = space
        shares = np.stack([one.costs / one.limit for one in constraints])
        self._lifts = lifts(space, shares)
        self.costs = torch.from_numpy(np.take_along_axis(shares, self._lifts[None], -1))
        self.fixed = torch.tensor([one.fixed / one.limit for one in constraints], dtype=torch.float64)

    def __call__(self, degrees: torch.Tensor) -> torch.Tensor:
        """(..., decisions, 2 or 1, formats - 1) degrees of weights and inputs (or of both) -> (..., constraints) float64."""
        places = place_probabilities(degrees.double())
        if self.space.apart:
            pairs = torch.einsum("...dw,...da->...dwa", places[..., 0, :], places[..., 1, :]).flatten(-2)
        else:
            pairs = places[..., 0, :]
        return self.fixed + torch.einsum("cdp,...dp->...c", self.costs, pairs)

    def lifted(self, choice: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(decisions,) pair indices, each lifted where that costs nothing."""
        return np.asarray(np.take_along_axis(self._lifts, choice[:, None], -1)[:, 0], np.int64)

    def climbs(self) -> torch.Tensor:
        """(decisions, 2 or 1) float32 in 0..1: what the way from foot to top costs an operand, as a share of its decision's dearer one."""
        of_operand = self.costs.sum(0).unflatten(-1, (len(self.space.formats), -1))  # (decisions, weight's place, input's place)
        ways = [of_operand[:, -1].mean(-1) - of_operand[:, 0].mean(-1)]
        if self.space.apart:
            ways.append(of_operand[..., -1].mean(-1) - of_operand[..., 0].mean(-1))
        dear = torch.stack(ways, -1).clamp_min(0)
        return (dear / dear.amax(-1, keepdim=True).clamp_min(torch.finfo(dear.dtype).tiny)).float()


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
        """How far to lower offsets together, so that the budget spent the most is spent to the end; by bisection.

        Shifts for several halvings are looked at together. Args: degrees_at: (shifts,) float64 -> (shifts, decisions, ...), the degrees
        when offsets are lowered by each.
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
