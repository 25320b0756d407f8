"""Greedy spending: from the cheapest pairs upwards, one move at a time, as long as a move fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from dmx.allocators.problem import Choice, Problem
from dmx.knapsack import best_choice

#: The order in which moves are tried: given the choice so far, moves (decision, pair), the best first.
Order = Callable[[Choice], Iterator[tuple[int, int]]]


def cheapest(problem: Problem, scores: npt.NDArray[np.float64] | None = None) -> Choice:
    """Every decision in its cheapest pair, all budgets weighed together; of pairs that cost the same, the one of least score.

    Where that misses one of several budgets, the cheapest choice that meets them all.
    """
    shares = problem.shares()
    rank = np.zeros_like(shares) if scores is None else scores
    order = np.lexsort((rank, shares), axis=1)
    choice = np.asarray(order[:, 0], np.int64)
    return choice if problem.is_met(choice) else best_choice(shares, problem.constraints)


def spend(problem: Problem, choice: Choice, order: Order) -> Choice:
    """Take the first move in order that fits, again and again, until none does."""
    current = choice.copy()
    while True:
        for decision, pair in order(current):
            moved = current.copy()
            moved[decision] = pair
            if problem.is_met(moved):
                current = moved
                break
        else:
            return current
