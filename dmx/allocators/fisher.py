"""Fisher: the loss's curvature at each linear's output, from its squared gradients, times the squared change; an ILP chooses.

NVIDIA ModelOpt's AutoQuantize: see dmx.curvature for what is summed.
"""

from __future__ import annotations

from dmx.allocators.measured import cached_scores, exact
from dmx.allocators.problem import Allocation, Problem, Scores
from dmx.curvature import curvature_scores
from dmx.observed import BATCH_WINDOWS, QuantisedWeights
from dmx.text import TokenText


def allocate(problem: Problem) -> Allocation:
    """No settings."""

    def measured(text: TokenText) -> Scores:
        weights = QuantisedWeights(problem.model, problem.space, problem.policy)
        return curvature_scores(problem.model, problem.space, weights, text, batch_windows=BATCH_WINDOWS, progress=problem.progress)

    return exact(problem, cached_scores(problem, "fisher", {}, measured), {})
