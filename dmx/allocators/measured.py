"""What the methods that measure share: the cache's key, the exact choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dmx.allocators.problem import Allocation, Problem, Scores
from dmx.errors import DmxError
from dmx.knapsack import best_choice
from dmx.text import TokenText


def cached_scores(problem: Problem, kind: str, settings: dict[str, Any], compute: Callable[[TokenText], Scores]) -> Scores:
    """(decisions, pairs) scores, from the cache where they were computed before.

    Args: kind: the name of the measurement.  settings: everything it depends on beside model, text, formats, policy and decisions.
    Raises: DmxError for scores that are not finite.
    """
    space, text = problem.space, problem.read_text()
    key = {
        "kind": kind,
        "settings": settings,
        "model": problem.model.sha256,
        "config": problem.model.config_sha256,
        "dtypes": problem.model.dtypes,
        "stored": problem.model.stored_sha256,
        "device": problem.model.device.type,
        "tokens": text.windows_sha256,
        "policy": problem.policy,
        "pairs": [str(pair) for pair in space.pairs],
        "decisions": {decision.name: list(decision.layers) for decision in space.decisions},
    }

    def checked(scores: Scores) -> Scores:
        bad = [decision.name for decision, own in zip(space.decisions, scores, strict=True) if not np.isfinite(own).all()]
        if bad:
            raise DmxError(
                f"the {kind} scores of {len(bad)} of {len(scores)} decisions are not finite, the last of them {bad[-1]!r}: the loss was, "
                "but not its gradient there or what is made of it"
            )
        return scores

    return checked(problem.cache.get(key, (len(space.decisions), len(space.pairs)), lambda: checked(compute(text))))


def exact(problem: Problem, scores: Scores, settings: dict[str, Any]) -> Allocation:
    """The choice of least total score within the budgets."""
    why = "dearer pairs would fit, but none lowers the predicted loss"
    return allocation(best_choice(scores, problem.constraints), scores, settings, why)


def allocation(choice: Any, scores: Scores, settings: dict[str, Any], why_no_dearer: str) -> Allocation:
    predicted = float(scores[np.arange(len(choice)), choice].sum())
    return Allocation(choice=choice, predicted_loss=predicted, settings=settings, why_no_dearer=why_no_dearer)
