"""What whole steps of the ladder are worth, from gradients at degrees of all kinds.

A search looks at the gradient at ever harder degrees, but a choice takes whole steps. Where the loss is quadratic in one step's degree, its
difference from 0 to 1 is the gradient at one half; a line through the gradients seen so far, each against that step's own degree, tells it.
"""

from __future__ import annotations

import torch

#: A degree's variance below which its line is held flat: gradients at one degree alone say nothing of a slope.
FLAT = 0.01


class Secants:
    """Running sums of gradients and of the degrees at which they were seen, older ones weighing less."""

    def __init__(self, sums: torch.Tensor) -> None:
        """Args: sums: (5, linears, 2, formats - 1) float32: of weights, degrees, gradients, degrees squared and their products."""
        self.sums = sums

    @classmethod
    def empty(cls, linears: int, steps: int) -> Secants:
        return cls(torch.zeros(5, linears, 2, steps))

    def add(self, degrees: torch.Tensor, gradient: torch.Tensor, *, weight: float = 1.0, kept: float = 1.0) -> None:
        """See a gradient. Args: degrees, gradient: (linears, 2, formats - 1).  kept: what share of their weight the older ones keep."""
        seen = torch.stack([torch.ones_like(degrees), degrees, gradient, degrees.square(), degrees * gradient])
        self.sums = kept * self.sums + weight * seen.detach()

    def plus(self, other: Secants, share: float) -> Secants:
        """What would have been seen of the sum of this loss and a share of another, both seen at the same degrees and weights."""
        of_gradients = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0]).reshape(-1, 1, 1, 1)
        return Secants(self.sums + share * of_gradients * other.sums)

    def __call__(self) -> torch.Tensor:
        """(linears, 2, formats - 1): the loss's difference when a step is taken whole, the others as they were of late."""
        total, degree, gradient, square, product = self.sums
        total = total.clamp_min(1e-12)
        mean = degree / total
        variance = (square / total - mean.square()).clamp_min(0)
        slope = (product / total - mean * gradient / total) / (variance + FLAT)
        middle: torch.Tensor = gradient / total + slope * (0.5 - mean)
        return middle
