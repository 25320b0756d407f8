"""From soft to hard: the squash that turns an offset into a place on the ladder, and the temperature that sharpens it.

A ladder of n formats has n - 1 steps. Step j is taken to the degree sigmoid(sharpness (offset - threshold_j)): 0 below, 1 above.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Thresholds are one apart, the first at this offset, as in the paper (two formats: high where the offset is above 1).
FIRST_THRESHOLD = 1.0
#: Sharpness for a temperature of 1 (the paper's k = 20 tau, over half the offset).
SHARPNESS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Sharpness over the steps: level, then rising exponentially."""

    steps: int
    level: float = 0.4  #: tau, while it is held
    hold: float = 0.6  #: the share of the steps for which it is
    rise: float = 50.0  #: how many times sharper the last step is

    def temperature(self, step: int) -> float:
        """The paper's tau at a step."""
        held = int(self.steps * self.hold)
        rest = self.steps - held
        if step < held:
            return self.level
        place = (step - held) / (rest - 1) if rest > 1 else 1.0
        return float(self.level * self.rise**place)

    def sharpness(self, step: int) -> float:
        """The slope of the sigmoid's argument, per unit of offset."""
        return SHARPNESS * self.temperature(step)


def thresholds(steps: int) -> torch.Tensor:
    """(steps,) float32: the offset at which each step of the ladder is half taken."""
    return FIRST_THRESHOLD + torch.arange(steps, dtype=torch.float32)


def degrees(offsets: torch.Tensor, steps: int, sharpness: float) -> torch.Tensor:
    """How far each step of the ladder is taken.

    Args: offsets: (...) float32.  steps: formats - 1.  Returns: (..., steps) float32 in 0..1, falling along the last axis.
    """
    return torch.sigmoid(sharpness * (offsets[..., None] - thresholds(steps)))


def slopes(taken: torch.Tensor, sharpness: float) -> torch.Tensor:
    """d degrees / d offset. Args: taken: what degrees returned."""
    return sharpness * taken * (1 - taken)


def harden(offsets: torch.Tensor, steps: int) -> torch.Tensor:
    """(...) int64: the place on the ladder that an offset ends at."""
    return (offsets[..., None] > thresholds(steps)).sum(-1)
