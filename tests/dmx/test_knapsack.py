"""The exact choice against every choice there is."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from dmx.budget import Constraint
from dmx.errors import DmxError
from dmx.knapsack import best_choice


def limited(costs: Any, limit: float, fixed: float = 0.0) -> Constraint:
    budget: Any = SimpleNamespace(text=f"bits={limit:g}")
    return Constraint(budget=budget, costs=np.array(costs, np.float64), fixed=fixed, limit=limit, wide=16.0)


def cheapest_score(scores: np.ndarray, limits: list[Constraint]) -> float | None:
    rows = np.arange(len(scores))
    met = [c for c in product(range(scores.shape[1]), repeat=len(scores)) if all(one.is_met(np.array(c)) for one in limits)]
    return min((float(scores[rows, list(c)].sum()) for c in met), default=None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 3), st.integers(1, 2))
def test_no_choice_within_the_budgets_is_better(seed: int, decisions: int, pairs: int, budgets: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(decisions, pairs))
    limits = []
    for _ in range(budgets):
        costs = rng.integers(1, 9, size=(decisions, pairs)).astype(np.float64)
        limits.append(limited(costs, float(rng.integers(costs.min(1).sum(), costs.max(1).sum() + 1)) + 1.0, fixed=1.0))
    best = cheapest_score(scores, limits)
    if best is None:
        with pytest.raises(DmxError, match="no choice of formats meets"):
            best_choice(scores, limits)
        return
    choice = best_choice(scores, limits)
    assert all(one.is_met(choice) for one in limits)
    assert scores[np.arange(decisions), choice].sum() == pytest.approx(best, abs=1e-6)


def test_a_budget_met_exactly_is_met() -> None:
    costs = np.tile([4.0, 8.0], (10, 1)) / 10
    choice = best_choice(np.tile([1.0, 0.0], (10, 1)), [limited(costs, 5.2)])
    assert choice.sum() == 3


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DmxError, match="NaN or infinite"):
        best_choice(np.array([[0.0, np.nan]]), [limited([[1.0, 2.0]], 2.0)])
