"""Uniform: one pair for every layer, the one of most bits that the budget allows."""

from __future__ import annotations

import numpy as np

from dmx.allocators.problem import Allocation, Problem
from dmx.decisions import scaled_bits
from dmx.errors import DmxError


def allocate(problem: Problem) -> Allocation:
    """No settings. Measures nothing."""
    space = problem.space
    by_bits = sorted(
        range(len(space.pairs)),
        key=lambda pair: scaled_bits(space.pairs[pair].weight) + scaled_bits(space.pairs[pair].activation),
        reverse=True,
    )
    for pair in by_bits:
        choice = np.full(len(space.decisions), pair, np.int64)
        if problem.is_met(choice):
            return Allocation(choice=choice, why_no_dearer="all layers take one pair, and none of more bits fits for all of them")
    together = " and ".join(one.budget.text for one in problem.constraints)
    raise DmxError(f"no single pair of formats for all layers meets {together}: loosen the budget, or take a method that mixes formats")
