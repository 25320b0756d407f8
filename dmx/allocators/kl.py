"""KL greedy, the baseline of the dMX paper (arXiv 2606.04115): the most sensitive layers get the higher format until the budget is spent.

A layer's sensitivity is the KL divergence when it alone is quantised to the low format. With more than two formats, or weights and
inputs apart, a layer climbs one step at a time and its sensitivity is that of the pair it stands at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dmx.allocators.greedy import cheapest, spend
from dmx.allocators.kl_scores import kl_scores
from dmx.allocators.measured import allocation
from dmx.allocators.problem import Allocation, Choice, Problem


def allocate(problem: Problem) -> Allocation:
    """No settings."""
    scores = kl_scores(problem)
    space = problem.space

    def most_sensitive(choice: Choice) -> Iterator[tuple[int, int]]:
        here = scores[np.arange(len(choice)), choice]
        for d in np.argsort(-here, kind="stable"):
            weight, activation = space.rungs(int(choice[d]))
            steps = [(weight + 1, activation), (weight, activation + 1)] if space.apart else [(weight + 1, activation + 1)]
            higher = [space.pair_at(*step) for step in steps if max(step) < len(space.formats)]
            better = [pair for pair in higher if scores[d, pair] < here[d]]
            yield from ((int(d), pair) for pair in sorted(better, key=lambda pair: float(scores[d, pair])))

    why = "dearer pairs would fit, but no layer's next rung up both fits and has less KL"
    return allocation(spend(problem, cheapest(problem, scores), most_sensitive), scores, {}, why)
