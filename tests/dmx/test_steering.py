"""Expected costs are exact at vertices; each pressure pulls the way it should; offsets land on the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from dmx.annealing import degrees
from dmx.budget import Budget, Constraint, Scenario, constraints
from dmx.decisions import DecisionSpace, decision_space
from dmx.scores import layer_degrees
from dmx.steering import SHIFT_RANGE, ExpectedCosts, Steering, lifts, place_probabilities

if TYPE_CHECKING:
    from dmx.models import LoadedModel

WHERE = Scenario(device="b200", assume=("b200-fp4-half-fp8",))
LADDER = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
Limits = tuple[DecisionSpace, tuple[Constraint, ...]]


@pytest.fixture(scope="module", params=[LADDER[::2], LADDER])
def limits(request: pytest.FixtureRequest, llama: LoadedModel) -> Limits:
    space = decision_space(llama, request.param)
    return space, constraints([Budget.parse(text, WHERE) for text in ("bits=5", "bytes=0.9x", "latency=2.6x")], space, llama.shape)


def test_places_are_shares_of_one() -> None:
    shares = place_probabilities(torch.tensor([[0.9, 0.25], [1.0, 1.0], [0.0, 0.0]]))
    assert torch.equal(shares.sum(-1), torch.ones(3))
    assert torch.allclose(shares, torch.tensor([[0.1, 0.65, 0.25], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))


def test_expected_costs_at_vertices_are_the_costs(limits: Limits) -> None:
    space, budgets = limits
    expected = ExpectedCosts(space, budgets)
    random = np.random.default_rng(0)
    for _ in range(20):
        choice = random.integers(len(space.pairs), size=len(space.decisions))
        spent = expected(layer_degrees(space, choice))
        assert spent.tolist() == pytest.approx([one.spent(choice) / one.limit for one in budgets], rel=1e-12)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("ladder", [LADDER[::2], LADDER])
@pytest.mark.parametrize("constrained", [1, 2])
def test_a_lift_is_the_cheapest_that_is_no_lower_and_no_dearer(
    llama: LoadedModel, ladder: tuple[str, ...], apart: bool, constrained: int
) -> None:
    space = decision_space(llama, ladder, apart=apart)
    random = np.random.default_rng(0)
    costs = random.integers(1, 6, (constrained, len(space.decisions), len(space.pairs))).astype(float)
    found = lifts(space, costs)
    for d, p in np.ndindex(found.shape):
        (weight, input_), mine = space.rungs(p), costs[:, d, p]
        serve = [
            (costs[:, d, q].sum(), -sum(space.rungs(q)), q)
            for q in range(len(space.pairs))
            if space.rungs(q)[0] >= weight and space.rungs(q)[1] >= input_ and (costs[:, d, q] <= mine).all()
        ]
        assert (costs[:, d, found[d, p]].sum(), -sum(space.rungs(int(found[d, p])))) == min(serve)[:2]
        assert int(found[d, p]) in [q for *_, q in serve]


@pytest.mark.parametrize(("budget", "inputs"), [("bits=5", "as dear"), ("bytes=0.9x", "free"), ("latency=2.6x", "nearly free")])
def test_landing_lowers_an_operand_by_what_its_climb_costs(llama: LoadedModel, budget: str, inputs: str) -> None:
    space = decision_space(llama, LADDER)
    expected = ExpectedCosts(space, constraints([Budget.parse(budget, WHERE)], space, llama.shape))
    weights_climb, inputs_climb = expected.climbs().T
    assert (weights_climb == 1).all()
    if inputs == "as dear":
        assert (inputs_climb == 1).all()
    elif inputs == "free":
        assert (inputs_climb == 0).all()
    else:
        assert (inputs_climb > 0).all()
        assert (inputs_climb < 0.2).all()


@pytest.mark.parametrize("ladder", [LADDER[::2], LADDER])
def test_expected_costs_never_fall_where_offsets_rise(llama: LoadedModel, ladder: tuple[str, ...]) -> None:
    """On this device a decoded token's MXFP4 weights with MXFP4 inputs are dearer than MXFP8 with itself."""
    space = decision_space(llama, ladder)
    (latency,) = constraints([Budget.parse("latency=2.6x", WHERE)], space, llama.shape)
    assert (latency.costs[:, 0] > latency.costs[:, -1]).all()
    expected = ExpectedCosts(space, (latency,))
    random = np.random.default_rng(0)
    for _ in range(20):
        choice = random.integers(len(space.pairs), size=len(space.decisions))
        spent = float(expected(layer_degrees(space, choice)))
        assert spent == pytest.approx(latency.spent(expected.lifted(choice)) / latency.limit, rel=1e-12)
        higher = np.array([space.pair_at(*np.maximum(space.rungs(int(p)), random.integers(len(ladder), size=2))) for p in choice])
        assert spent <= float(expected(layer_degrees(space, higher))) + 1e-12


@pytest.mark.parametrize(("kind", "above", "below"), [("lagrangian", 1, 1), ("two_sided", 1, -1), ("one_sided", 1, 0)])
def test_pressure_pulls_to_the_budget(limits: Limits, kind: str, above: int, below: int) -> None:
    _, budgets = limits
    steering = Steering(kind, 5.0, budgets, np.ones(len(budgets)), 1e-3)
    for offset, sign in ((0.1, above), (-0.1, below)):
        spent = torch.full((len(budgets),), 1 + offset, dtype=torch.float64, requires_grad=True)
        steering.pressure(spent).backward()
        assert spent.grad is not None
        assert spent.grad.sign().tolist() == [sign] * len(budgets)


def test_a_penalty_is_per_bit(limits: Limits) -> None:
    _, (bits, *_) = limits
    steering = Steering("one_sided", 5.0, [bits], np.zeros(1), 0.0)
    assert float(steering.pressure(torch.tensor([(bits.limit + 1) / bits.limit], dtype=torch.float64))) == pytest.approx(5.0)


def test_prices_never_vanish(limits: Limits) -> None:
    _, budgets = limits
    steering = Steering("lagrangian", 5.0, budgets, np.zeros(len(budgets)), 1e-3)
    steering.follow(np.full(len(budgets), 0.5))
    assert steering.prices.tolist() == [0.5] * len(budgets)
    steering.follow(np.zeros(len(budgets)))
    assert steering.prices.tolist() == [1e-3] * len(budgets)


def test_offsets_land_on_the_budget_spent_most(limits: Limits) -> None:
    space, budgets = limits
    expected, steps = ExpectedCosts(space, budgets[:1]), len(space.formats) - 1
    steering = Steering("lagrangian", 5.0, budgets[:1], np.ones(1), 1e-3)
    offsets = torch.randn(len(space.decisions), 2, generator=torch.Generator().manual_seed(0))

    def spent(by: torch.Tensor) -> torch.Tensor:
        return degrees(offsets - by.float()[:, None, None], steps, 3.0)

    shift = steering.shift(expected, spent)
    assert float(expected(degrees(offsets - shift, steps, 3.0)).max()) == pytest.approx(1, abs=1e-5)
    low, high = -SHIFT_RANGE, SHIFT_RANGE
    for _ in range(24):
        middle = (low + high) / 2
        exceeds = float(expected(degrees(offsets - middle, steps, 3.0)).max()) > 1
        low, high = (middle, high) if exceeds else (low, middle)
    assert shift == high
    assert Steering("two_sided", 5.0, budgets, np.ones(len(budgets)), 1e-3).shift(expected, spent) == 0


def test_a_penalty_on_another_budget_is_per_quarter_of_its_range(limits: Limits) -> None:
    _, (_, stored, *_) = limits
    steering = Steering("one_sided", 5.0, [stored], np.zeros(1), 0.0)
    spent = (stored.limit + (stored.dearest - stored.cheapest) / 4) / stored.limit
    assert float(steering.pressure(torch.tensor([spent], dtype=torch.float64))) == pytest.approx(5.0)


def test_offsets_land_on_the_one_budget_that_binds(limits: Limits) -> None:
    space, budgets = limits[0], limits[1][:2]
    expected, steps = ExpectedCosts(space, budgets), len(space.formats) - 1
    steering = Steering("lagrangian", 5.0, budgets, np.ones(len(budgets)), 1e-3)
    offsets = torch.randn(len(space.decisions), 2, generator=torch.Generator().manual_seed(0))
    shift = steering.shift(expected, lambda by: degrees(offsets - by.float()[:, None, None], steps, 3.0))
    spent = expected(degrees(offsets - shift, steps, 3.0))
    assert float(spent.max()) == pytest.approx(1, abs=1e-5)
    assert float(spent.min()) < 0.99


def made(costs: list[list[float]], limit: float, kind: str = "bytes") -> Constraint:
    return Constraint(budget=Budget(kind=kind, amount=limit), costs=np.array(costs), fixed=0.0, limit=limit, wide=1.0)


def test_a_climb_is_what_it_costs_on_average_over_the_other_operands_formats(llama: LoadedModel) -> None:
    """Of both budgets together, in shares of each: weights climb by (4 + 9 - 1 - 2) / 2, inputs by (2 + 9 - 1 - 4) / 2."""
    space = decision_space(llama, LADDER[::2], only=["*layers.0.mlp.up_proj"])
    limits = [made([[1.0, 2.0, 4.0, 9.0]], 10.0), made([[2.0, 2.0, 3.0, 3.0]], 5.0)]
    expected = ExpectedCosts(space, limits)
    assert expected.climbs().tolist() == [pytest.approx([1.0, 0.3 / (0.5 + 0.2)])]


def test_a_penalty_on_a_budget_without_a_range_is_per_quarter_of_it() -> None:
    steering = Steering("two_sided", 5.0, [made([[3.0, 3.0]], 4.0)], np.zeros(1), 0.0)
    assert float(steering.pressure(torch.tensor([0.75], dtype=torch.float64))) == pytest.approx(5.0)
