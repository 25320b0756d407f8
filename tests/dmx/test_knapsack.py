"""The exact choice against every choice there is."""

from __future__ import annotations

import ctypes
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from dmx.budget import Budget, Constraint, Scenario, constraints
from dmx.decisions import decision_space
from dmx.errors import DmxError
from dmx.knapsack import best_choice, check_together, shadow_prices
from dmx.models import load_model


def limited(costs: Any, limit: float, fixed: float = 0.0, kind: str = "bits") -> Constraint:
    budget: Any = SimpleNamespace(text=f"{kind}={limit:g}", kind=kind, is_share=False, bits_scales="out", bits_weighting="plain")
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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 3), st.integers(2, 3))
def test_what_no_choice_meets_together_is_refused_with_the_least_that_each_can_be(
    seed: int, decisions: int, pairs: int, budgets: int
) -> None:
    rng = np.random.default_rng(seed)
    costs = [rng.integers(1, 9, size=(decisions, pairs)).astype(np.float64) for _ in range(budgets)]
    limits = [limited(c, float(rng.integers(c.min(1).sum(), c.max(1).sum() + 1)), kind=f"kind{i}") for i, c in enumerate(costs)]
    choices = [np.array(c) for c in product(range(pairs), repeat=decisions)]
    if any(all(one.is_met(c) for one in limits) for c in choices):
        check_together(limits)
        return
    with pytest.raises(DmxError, match="no choice of formats meets") as refused:
        check_together(limits)
    for i, one in enumerate(limits):
        others = [*limits[:i], *limits[i + 1 :]]
        within = [one.spent(c) for c in choices if all(other.is_met(c) for other in others)]
        told = f"kind{i}={min(within):g} is the least with" if within else f"no kind{i} is enough for"
        assert told in str(refused.value)


def test_what_passes_together_is_found_however_close_the_rest() -> None:
    """One choice is within the second budget by less than the solver's tolerance, and another exceeds it by less."""
    first = limited([[1.0, 2.0], [1.0, 2.0]], 3.0)
    second = limited([[1.0 + 4e-7, 1.0], [1.0 + 4e-7, 1.0]], 2.0 + 4.1e-7)
    check_together([first, second])
    assert best_choice(np.array([[0.0, 1.0], [0.0, 1.0]]), [first, second]).sum() == 1


def test_a_budget_met_exactly_is_met() -> None:
    costs = np.tile([4.0, 8.0], (10, 1)) / 10
    choice = best_choice(np.tile([1.0, 0.0], (10, 1)), [limited(costs, 5.2)])
    assert choice.sum() == 3


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DmxError, match="NaN or infinite"):
        best_choice(np.array([[0.0, np.nan]]), [limited([[1.0, 2.0]], 2.0)])


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """What `dmx search --json` prints is for other programs; HiGHS 1.12 prints a line of its own while it solves these."""
    pytest.importorskip("transformers")
    model = load_model(None)
    space = decision_space(model, ("mxfp4_e2m1", "mxfp8_e4m3"))
    where = Scenario(device="b200", assume=("b200-fp4-half-fp8",))
    limits = constraints([Budget.parse("energy=2.3497x", where)], space, model.shape)
    for seed in (1, 11):
        weight, activation = -np.random.default_rng(seed).lognormal(0, 2, (len(space.decisions), 2)).T * 1e-3
        best_choice(np.stack([0 * weight, weight, activation, weight + activation], -1), limits)
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("seed", range(6))
def test_a_choice_beyond_its_budget_by_less_than_the_solver_sees_is_not_taken(seed: int) -> None:
    """Nor the cheapest in its place: the best of those within it."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(1, 9, (4, 3)).astype(np.float64)
    scores = -whole + rng.normal(0, 0.1, whole.shape)
    limits = [limited(whole + [0, 0, 5e-7], max(float(whole.sum() // 3), whole.min(1).sum() + 2))]
    choice = best_choice(scores, limits)
    assert limits[0].is_met(choice)
    assert scores[np.arange(4), choice].sum() == pytest.approx(cheapest_score(scores, limits), rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_what_decisions_cost_may_be_little_beside_what_none_touches(seed: int) -> None:
    """As energy and latency where static power and launches are most of them: the solver's tolerance is no share of those."""
    rng = np.random.default_rng(seed)
    costs = rng.uniform(1, 2, (7, 3))
    limits = [limited(costs, 1e6 + costs.min(1).sum() + 2, fixed=1e6), limited(rng.uniform(1, 2, (7, 3)), 1e4 + 10.5, fixed=1e4)]
    scores = -costs * rng.uniform(0.9, 1.1, costs.shape)
    choice = best_choice(scores, limits)
    assert all(one.is_met(choice) for one in limits)
    assert scores[np.arange(7), choice].sum() == pytest.approx(cheapest_score(scores, limits), rel=1e-9)


@pytest.mark.parametrize(("decisions", "limit", "raised"), [(42, 5.142857, 11), (48, 5.3333333, 15), (30, 4.6666666, 4)])
def test_a_budget_just_below_what_equal_layers_reach_is_spent_as_far_as_whole_layers_go(decisions: int, limit: float, raised: int) -> None:
    """Of the choices that exceed it by less than the solver sees there are too many to leave out one by one."""
    costs = np.tile([4 / decisions, 8 / decisions], (decisions, 1))
    scores = np.stack([np.zeros(decisions), -np.random.default_rng(0).uniform(0.5, 1.5, decisions)], 1)
    choice = best_choice(scores, [limited(costs, limit)])
    assert choice.sum() == raised
    assert scores[:, 1][choice == 1].sum() == pytest.approx(np.sort(scores[:, 1])[:raised].sum(), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_scores_that_differ_by_little_are_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = np.stack([np.ones(10), rng.integers(2, 9, 10)], 1).astype(np.float64)
    scores = np.stack([np.zeros(10), -(costs[:, 1] - 1) * rng.uniform(0.99, 1.01, 10)], 1)
    limits = [limited(costs, float(costs.sum() // 3))]
    choice = best_choice(scores, limits)
    assert scores[np.arange(10), choice].sum() == pytest.approx(cheapest_score(scores, limits), rel=1e-9)


def test_a_shadow_price_is_what_more_of_a_budget_saves() -> None:
    """Per cost the decisions' second pairs save 3, 2 and 1 thousandths; the budget ends within the second's."""
    scores = np.array([[0.0, -3.0], [0.0, -4.0], [0.0, -1.0]]) * 1e-3
    tight = limited([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]], 6.5, fixed=1.5)
    loose = limited(tight.costs, 100.0)
    assert shadow_prices(scores, [tight, loose]) == pytest.approx([2e-3 * 6.5, 0.0])


def test_a_budget_that_nothing_meets_has_no_price() -> None:
    assert shadow_prices(np.array([[0.0, -1.0]]), [limited([[2.0, 3.0]], 1.0)]).tolist() == [0.0]


def test_scores_of_any_size_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    costs = rng.integers(1, 9, (6, 3)).astype(np.float64)
    scores = rng.normal(size=(6, 3))
    limits = [limited(costs, float(costs.min(1).sum() + 8))]
    best = cheapest_score(scores, limits)
    for size in (1e-12, 1.0, 1e12):
        assert scores[np.arange(6), best_choice(scores * size, limits)].sum() == pytest.approx(best, rel=1e-9)
