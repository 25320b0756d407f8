"""KL per unit of budget: of all moves to a better pair, the one that saves the most divergence for what it costs, until none fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dmx.allocators.greedy import cheapest, spend
from dmx.allocators.kl_scores import kl_scores
from dmx.allocators.measured import allocation
from dmx.allocators.problem import Allocation, Choice, Problem


def allocate(problem: Problem) -> Allocation:
    """No settings."""
    scores, shares = kl_scores(problem), problem.shares()

    def best_value(choice: Choice) -> Iterator[tuple[int, int]]:
        rows = np.arange(len(choice))
        saved = scores[rows, choice][:, None] - scores
        cost = shares - shares[rows, choice][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(saved > 0, np.where(cost > 0, saved / cost, np.inf), -np.inf)
        # Free moves first, the largest saving first among them.
        order = np.lexsort((-saved.reshape(-1), -value.reshape(-1)))
        for place in order:
            if value.reshape(-1)[place] == -np.inf:
                return
            yield int(place) // value.shape[1], int(place) % value.shape[1]

    why = "dearer pairs would fit, but none has less KL"
    return allocation(spend(problem, cheapest(problem, scores), best_value), scores, {}, why)
