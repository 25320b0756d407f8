"""Budgets: what a text means, what it counts, that constraints say what mxsim.cost says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import mxsim
from dmx import search
from dmx.allocators import allocate
from dmx.budget import Budget, Scenario, achieved, budget_names, constraint, constraints
from dmx.cli.allocation_table import assignment_table
from dmx.decisions import decision_space, element_bits, scaled_bits
from dmx.errors import DmxError
from dmx.knapsack import best_choice
from dmx.models import LoadedModel
from dmx.running import scenario_of
from dmx.text import TokenText
from mxsim.assignment import Assignment
from mxsim.errors import MxsimError
from mxsim.workload import Phase

FORMATS = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
ASSUMED = ("vmxdotp_12nm-bf16-twice-fp8", "vmxdotp_12nm-hbm2-dram")
PLACE = Scenario(device="vmxdotp_12nm", phases=((Phase(context=16), 1.0),), assume=ASSUMED)


def some_choice(space: object, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(space.pairs), size=len(space.decisions))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("scales", "of"), [("out", element_bits), ("in", scaled_bits)])
@pytest.mark.parametrize("weighting", ["plain", "size"])
@pytest.mark.parametrize("tie", [False, True])
def test_bits_in_every_reading(llama: LoadedModel, scales: str, of: object, weighting: str, tie: bool) -> None:
    space = decision_space(llama, FORMATS, tie=tie)
    one = constraint(Budget.parse("bits=5", bits_scales=scales, bits_weighting=weighting), space, llama.shape)
    choice = some_choice(space)
    layers = space.layer_pairs(choice)
    weights = [llama.linears[n].weight.numel() if weighting == "size" else 1 for n in layers]
    bits = [(of(p.weight) + of(p.activation)) / 2 for p in layers.values()]  # type: ignore[operator]
    assert one.spent(choice) == pytest.approx(np.average(bits, weights=weights), rel=1e-12)


@pytest.mark.parametrize("kind", ["bytes", "dram", "energy", "latency"])
@pytest.mark.parametrize("tie", [False, True])
def test_a_constraint_spends_what_mxsim_cost_says(llama: LoadedModel, kind: str, tie: bool) -> None:
    place = PLACE if kind in ("bytes", "energy") else Scenario(device="b200", phases=((Phase(context=16), 1.0),))
    space = decision_space(llama, FORMATS, tie=tie)
    one = constraint(Budget.parse(f"{kind}=0.5x", place), space, llama.shape)
    choice = some_choice(space, 1)
    assignment = Assignment(layers=space.layer_pairs(choice))
    report = mxsim.cost(llama.shape, place.device, assignment, phase="decode", batch=1, context=16, assume=place.assume)
    key = {"bytes": "weight_bytes", "dram": "dram_bytes", "energy": "energy_pj", "latency": "latency_s"}[kind]
    assert one.spent(choice) == pytest.approx(report.totals[key], rel=1e-12)
    wide = mxsim.cost(llama.shape, place.device, "bf16", phase="decode", batch=1, context=16, assume=place.assume)
    assert one.wide == pytest.approx(wide.totals[key], rel=1e-12)
    assert one.limit == 0.5 * one.wide
    spent = achieved(assignment, llama.shape, place)
    name = {"bytes": "bytes", "energy": "energy_pj", "latency": "latency_s"}.get(kind)
    if name:
        assert spent[name] == pytest.approx(report.totals[key], rel=1e-12)


def test_steps_and_the_kv_caches_format_are_counted_and_weights_are_stored_once(llama: LoadedModel) -> None:
    place = Scenario.parse(["decode:1:16*3"], device="b200", kv_format="mxfp8_e4m3")
    space = decision_space(llama, FORMATS)
    choice = some_choice(space)
    assignment = Assignment(layers=space.layer_pairs(choice))
    report = mxsim.cost(llama.shape, "b200", assignment, phase="decode", batch=1, context=16, kv_format="mxfp8_e4m3")
    usual = mxsim.cost(llama.shape, "b200", assignment, phase="decode", batch=1, context=16)
    assert report.totals["dram_bytes"] != usual.totals["dram_bytes"]
    for kind, key, times in (("bytes", "weight_bytes", 1), ("dram", "dram_bytes", 3), ("latency", "latency_s", 3)):
        one = constraint(Budget.parse(f"{kind}=1x", place), space, llama.shape)
        assert one.spent(choice) == pytest.approx(times * report.totals[key], rel=1e-12)
    told = achieved(assignment, llama.shape, place)
    assert told["bytes"] == report.totals["weight_bytes"]
    assert told["latency_s"] == pytest.approx(3 * report.totals["latency_s"], rel=1e-12)


@pytest.mark.parametrize("only", ["*q_proj", "*gate_proj"])
def test_a_fused_projection_of_which_one_linear_is_searched_has_its_costs(llama: LoadedModel, only: str) -> None:
    place = Scenario(device="b200", phases=((Phase(context=16), 1.0),))
    tied, loose = (decision_space(llama, FORMATS, tie=tie, only=[only]) for tie in (True, False))
    for kind in ("bytes", "latency"):
        ours, theirs = (constraint(Budget.parse(f"{kind}=1x", place), space, llama.shape) for space in (tied, loose))
        np.testing.assert_array_equal(ours.costs, theirs.costs)
        assert ours.fixed == theirs.fixed


@pytest.mark.parametrize(("kind", "batch"), [("decode", 1), ("prefill", 1), ("decode", 4)])
def test_a_context_that_was_not_asked_for_is_the_models_longest(llama: LoadedModel, kind: str, batch: int) -> None:
    assert llama.shape is not None
    longest = llama.shape.max_context
    free, asked = (Scenario.of_step(kind, batch, context, device="b200") for context in (None, longest))
    assert free.fitted(llama.shape).phases == asked.phases
    space = decision_space(llama, FORMATS)
    ours, theirs = (constraint(Budget.parse("latency=1x", place), space, llama.shape) for place in (free, asked))
    np.testing.assert_array_equal(ours.costs, theirs.costs)
    assert [phase.context for phase, _ in ours.budget.scenario.phases] == [longest]
    found = allocate(llama, "uniform", "latency=99x", scenario=free)
    assert [step["context"] for step in found.budget["phases"]] == [longest]
    assert scenario_of(free.to_json()).fitted(llama.shape) == free.fitted(llama.shape)


def test_the_usual_step_is_shortened_wherever_it_stands(llama: LoadedModel) -> None:
    assert llama.shape is not None
    place = Scenario(device="b200", phases=((Phase(kind="prefill", context=16), 1.0), (Phase(), 8.0)))
    assert [(phase.context, times) for phase, times in place.fitted(llama.shape).phases] == [(16, 1.0), (llama.shape.max_context, 8.0)]


def test_a_context_of_its_own_is_kept_beside_the_usual_step(llama: LoadedModel) -> None:
    fitted = Scenario(phases=((Phase(), 1.0), (Phase(context=5000), 1.0))).fitted(llama.shape)
    assert [phase.context for phase, _ in fitted.phases] == [32, 5000]


def test_a_step_that_is_named_twice_adds_up(llama: LoadedModel) -> None:
    twice, once = (Scenario.parse(steps, device="b200") for steps in (["decode:1:16", "decode:1:16*3"], ["decode:1:16*4"]))
    space = decision_space(llama, FORMATS)
    choice = some_choice(space)
    ours, theirs = (constraint(Budget.parse("latency=1", place), space, llama.shape) for place in (twice, once))
    assert ours.spent(choice) == pytest.approx(theirs.spent(choice), rel=1e-12)
    told = achieved(Assignment(layers=space.layer_pairs(choice)), llama.shape, twice)["latency_s"]
    assert ours.spent(choice) == pytest.approx(told, rel=1e-12)


def test_a_context_that_was_asked_for_is_left_as_it_is(llama: LoadedModel) -> None:
    for place in (Scenario.parse(["decode:1:1024"], device="b200"), Scenario.of_step("decode", 1, 1024, device="b200")):
        assert place.fitted(llama.shape) is place
        with pytest.raises(MxsimError, match="context 1024 is longer than"):
            allocate(llama, "uniform", "bits=8", scenario=place)
        with pytest.raises(MxsimError, match="context 1024 is longer than"):
            search(llama, "bits=8", scenario=place, text=Path("not read"))


def test_budgets_that_read_alike_are_told_apart(llama: LoadedModel) -> None:
    places = (PLACE, Scenario(device="b200", phases=((Phase(context=16), 1.0),), assume=("b200-fp4-half-fp8",)))
    energies = [Budget.parse("energy=9x", place) for place in places]
    bits = [Budget.parse("bits=9", bits_scales=scales) for scales in ("in", "out")]
    found = allocate(llama, "uniform", [*energies, *bits, "bytes=2x"], formats=("mxfp8_e4m3",))
    step = "1 x decode(batch=1, context=16), KV cache bf16"
    on_b200 = f"energy=9x (on b200, {step}, b200-fp4-half-fp8)"
    expected = [
        f"energy=9x (on vmxdotp_12nm, {step}, {', '.join(ASSUMED)})",
        on_b200,
        "bits=9 (scales in, weighted plain)",
        "bits=9 (scales out, weighted plain)",
        "bytes=2x",
    ]
    assert list(found.search["spent_of_budget"]) == list(found.search["left_of_budget"]) == expected
    assert [found.search["spent_of_budget"][name] for name in expected[2:4]] == [8.25, 8.0]
    assert [one["name"] for one in found.budget["all_of"]] == expected
    told = assignment_table(found)
    assert "spent of bits=9 (scales in, weighted plain)" in told
    assert f"left of {on_b200}" in told
    assert budget_names([energies[1]] * 2) == [f"{on_b200}, 1", f"{on_b200}, 2"]


def test_phases_add_up(llama: LoadedModel) -> None:
    space = decision_space(llama, FORMATS)
    both = Scenario.parse(["prefill:1:16", "decode:1:16*8"], device="b200")
    parts = [
        constraint(Budget.parse("latency=1", Scenario.parse([w], device="b200")), space, llama.shape)
        for w in ("prefill:1:16", "decode:1:16")
    ]
    choice = some_choice(space)
    total = constraint(Budget.parse("latency=1", both), space, llama.shape).spent(choice)
    assert total == pytest.approx(parts[0].spent(choice) + 8 * parts[1].spent(choice), rel=1e-12)


def test_a_mixture_costs_what_its_vertices_cost(llama: LoadedModel) -> None:
    """Costs are linear in probabilities: at a vertex the relaxed cost is the hard one."""
    space = decision_space(llama, FORMATS)
    one = constraint(Budget.parse("energy=1x", PLACE), space, llama.shape)
    choice = some_choice(space)
    onehot = np.eye(len(space.pairs))[choice]
    assert one.fixed + (onehot * one.costs).sum() == pytest.approx(one.spent(choice), rel=1e-12)


def test_a_budget_out_of_reach_names_the_range(llama: LoadedModel) -> None:
    space = decision_space(llama, FORMATS)
    with pytest.raises(DmxError, match="reachable range is 4 to 8"):
        constraints([Budget.parse("bits=3.9")], space, llama.shape)
    with pytest.raises(DmxError, match="x of all-BF16"):
        constraints([Budget.parse("bits=8"), Budget.parse("bytes=0.01x")], space, llama.shape)
    assert len(constraints([Budget.parse("bits=4"), Budget.parse("bytes=0.9x")], space, llama.shape)) == 2


@pytest.mark.parametrize("kind", ["bytes", "energy", "latency"])
def test_the_least_that_a_refusal_names_can_be_asked_for(llama: LoadedModel, kind: str) -> None:
    """On a small model energies differ in their fifth digit: a range in fewer would name budgets that are refused."""
    place = Scenario(device="b200", phases=((Phase(context=16), 1.0),), assume=("b200-fp4-half-fp8",))
    space = decision_space(llama, FORMATS)
    with pytest.raises(DmxError) as refused:
        constraints([Budget.parse(f"{kind}=0.01x", place)], space, llama.shape)
    amount, share = re.findall(r"range is ([\d.e+-]+) to .*\(([\d.]+x) to", str(refused.value))[0]
    for least in (amount, share):
        assert constraints([Budget.parse(f"{kind}={least}", place)], space, llama.shape)


@pytest.mark.parametrize("formats", [("mxfp8_e4m3",), ("bf16",), ("mxfp8_e4m3", "mxfp8_e5m2")], ids=str)
@pytest.mark.parametrize("kind", ["bytes", "energy", "latency"])
def test_where_all_costs_the_same_both_ends_of_the_range_can_be_asked_for(llama: LoadedModel, kind: str, formats: tuple[str, ...]) -> None:
    place = Scenario(device="b200", phases=((Phase(context=16), 1.0),))
    space = decision_space(llama, formats)
    with pytest.raises(DmxError) as refused:
        constraints([Budget.parse(f"{kind}=0.01x", place)], space, llama.shape)
    absolute, shares = re.findall(r"([\d.e+-]+)x? to ([\d.e+-]+)x?", str(refused.value))
    for least, most in (absolute, shares):
        assert least == most
    if formats == ("bf16",):
        assert shares == ("1", "1")
    for amount in (absolute[0], f"{shares[0]}x"):
        met = constraints([Budget.parse(f"{kind}={amount}", place)], space, llama.shape)
        assert best_choice(np.zeros((len(space.decisions), len(space.pairs))), met).shape == (len(space.decisions),)


@pytest.mark.parametrize("method", ["search", "allocate"])
def test_budgets_that_exclude_each_other_are_refused_before_anything_is_measured(llama: LoadedModel, method: str) -> None:
    """Each can be met alone: on this device MXFP4 weights are fastest with MXFP8 inputs. What the refusal names can be asked for."""
    place = Scenario(device="b200", phases=((Phase(context=16), 1.0),), assume=("b200-fp4-half-fp8",))
    space = decision_space(llama, FORMATS)
    latency = constraint(Budget.parse("latency=1x", place), space, llama.shape)
    asked = ["bits=4.25", latency.asked(1.01 * latency.cheapest)]
    unread = Path("no such text")

    def ask(budgets: list[str]) -> None:
        if method == "search":
            search(llama, budgets, text=unread, scenario=place, formats=FORMATS)
        else:
            allocate(llama, "kl", budgets, text=unread, scenario=place, formats=FORMATS, apart=True)

    with pytest.raises(DmxError, match=r"no choice of formats meets bits=4\.25 and latency=[\d.]+x together") as refused:
        ask(asked)
    leasts = re.findall(r"(\w+=[\d.e+-]+x?) is the least with", str(refused.value))
    assert [least.partition("=")[0] for least in leasts] == ["bits", "latency"]
    for budgets in ([leasts[0], asked[1]], [asked[0], leasts[1]]):
        with pytest.raises(DmxError, match="no such text"):
            ask(budgets)


def test_a_budget_says_every_digit() -> None:
    assert Budget.parse("bytes=1526213").text == "bytes=1526213"
    assert Budget.parse("energy=2.34936921x", PLACE).text == "energy=2.34936921x"
    assert Budget.parse("bits=5.0").text == "bits=5"


@pytest.mark.parametrize("method", ["search", "allocate"])
def test_costs_are_told_for_the_first_budget_that_has_a_device(llama: LoadedModel, text: TokenText, method: str) -> None:
    bits, latency = Budget.parse("bits=6"), Budget.parse("latency=9x", Scenario(device="b200"))
    quick: dict[str, Any] = {"steps": 1, "refine": 0, "curvature": False}

    def found(budgets: list[Budget], scenario: Scenario | None = None) -> Assignment:
        if method == "allocate":
            return allocate(llama, "uniform", budgets, scenario=scenario)
        return search(llama, budgets, text=text, scenario=scenario, **quick)

    place = Scenario(device="b200")
    for asked, scenario in (([bits, latency], None), ([latency, bits], None), ([bits], place)):
        one = found(asked, scenario)
        assert one.achieved == achieved(one, llama.shape, place)
        assert one.achieved["latency_s"] > 0
    assert found([bits]).achieved["latency_s"] is None


@pytest.mark.parametrize("text", ["bits", "bits=", "bits=x", "bits=five", "bits=-1", "bits=nan", "bits=0", "bits=5_0"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(DmxError):
        Budget.parse(text)


def test_unknown_kinds_and_missing_devices_are_refused(llama: LoadedModel) -> None:
    with pytest.raises(MxsimError, match="did you mean 'energy'"):
        Budget.parse("energ=1")
    with pytest.raises(DmxError, match="needs a device"):
        Budget.parse("latency=1")
    with pytest.raises(DmxError, match="only bits can be counted"):
        constraint(Budget.parse("bytes=1x"), decision_space(llama, FORMATS), None)
    with pytest.raises(DmxError, match="no budget"):
        constraints([], decision_space(llama, FORMATS), None)
    with pytest.raises(DmxError, match="PHASE:BATCH:CONTEXT"):
        Scenario.parse(["decode:1"], device=None)
