"""Cost tables: linear in choices, equal to the discrete cost at a vertex, in every bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxsim.assignment import Assignment
from mxsim.cost_table import CostTable, build_cost_table
from mxsim.costing import cost
from mxsim.devices import load_device
from mxsim.errors import MxsimError, UnknownNameError
from mxsim.pricing import METRICS
from mxsim.storage_formats import FormatPair
from mxsim.workload import Phase

PAIRS = ("bf16", "mxfp8_e4m3", "mxfp6_e2m3", "mxfp4_e2m1", "mxfp4_e2m1:mxfp8_e4m3", "nvfp4:bf16")
PHASES = (Phase(batch=2, context=300), Phase(kind="prefill", batch=1, context=200))
DEVICE = load_device("b200", assume=["b200-fp4-half-fp8"])
TIED = {name: build_cost_table(name, DEVICE, PAIRS, PHASES) for name in ("SmolLM2-135M", "gpt-oss-20b", "stories260K")}
MERGED = build_cost_table("stories260K", DEVICE, PAIRS, PHASES, merge=True)
UNTIED = build_cost_table("stories260K", DEVICE, PAIRS, PHASES, tie=False)


def vertex(table: CostTable, picks: list[int]) -> list[list[float]]:
    return [[float(i == pick) for i in range(len(table.pairs))] for pick in picks]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(TIED)), st.data())
def test_at_a_vertex_the_relaxed_cost_is_the_discrete_cost_exactly(model: str, data: st.DataObject) -> None:
    table = TIED[model]
    picks = data.draw(st.lists(st.integers(0, len(PAIRS) - 1), min_size=len(table.groups), max_size=len(table.groups)))
    choice = {group: table.pairs[pick] for group, pick in zip(table.groups, picks, strict=True)}
    layers = {name: choice[group] for group, members in table.groups.items() for name in members}
    for phase in PHASES:
        report = cost(model, DEVICE, Assignment(layers=layers), phase.kind, phase.batch, phase.context)
        for metric in METRICS:
            relaxed = table.relaxed(vertex(table, picks), metric, phase)
            assert relaxed == table.total(choice, metric, phase)
            assert relaxed == report.sum(metric)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_same_where_launches_are_merged(data: st.DataObject) -> None:
    table = MERGED
    picks = data.draw(st.lists(st.integers(0, len(PAIRS) - 1), min_size=len(table.groups), max_size=len(table.groups)))
    choice = {group: table.pairs[pick] for group, pick in zip(table.groups, picks, strict=True)}
    layers = {name: choice[group] for group, members in table.groups.items() for name in members}
    for phase in PHASES:
        report = cost("stories260K", DEVICE, Assignment(layers=layers), phase.kind, phase.batch, phase.context, merge=True)
        for metric in METRICS:
            assert table.relaxed(vertex(table, picks), metric, phase) == report.sum(metric)
        assert table.total(choice, "latency_s", phase) < TIED["stories260K"].total(choice, "latency_s", phase)


def test_merging_needs_decisions_of_whole_groups() -> None:
    with pytest.raises(MxsimError, match="merge needs tied decisions"):
        build_cost_table("stories260K", DEVICE, PAIRS, PHASES, tie=False, merge=True)
    with pytest.raises(MxsimError, match=r"only a part of model\.layers\.0\.mlp\.gate_up_proj is searched"):
        build_cost_table("stories260K", DEVICE, PAIRS, PHASES, searched=["model.layers.0.mlp.up_proj"], merge=True)


@given(st.data())
def test_untied_decisions_too(data: st.DataObject) -> None:
    picks = data.draw(st.lists(st.integers(0, len(PAIRS) - 1), min_size=len(UNTIED.groups), max_size=len(UNTIED.groups)))
    choice = {group: UNTIED.pairs[pick] for group, pick in zip(UNTIED.groups, picks, strict=True)}
    for metric in METRICS:
        assert UNTIED.relaxed(vertex(UNTIED, picks), metric, PHASES[0]) == UNTIED.total(choice, metric, PHASES[0])
        report = cost("stories260K", DEVICE, Assignment(layers=choice), "decode", 2, 300)
        assert report.sum(metric) == pytest.approx(UNTIED.total(choice, metric, PHASES[0]), rel=1e-14)


@given(st.floats(0, 1), st.integers(0, 5), st.integers(0, 5))
def test_the_relaxed_cost_is_linear(share: float, first: int, second: int) -> None:
    table, phase = TIED["stories260K"], PHASES[0]
    ends = [vertex(table, [pick] * len(table.groups)) for pick in (first, second)]
    mixed = [[share * a + (1 - share) * b for a, b in zip(*rows, strict=True)] for rows in zip(*ends, strict=True)]
    for metric in METRICS:
        costs = [table.relaxed(end, metric, phase) for end in ends]
        assert table.relaxed(mixed, metric, phase) == pytest.approx(share * costs[0] + (1 - share) * costs[1], rel=1e-12)


def test_groups_are_the_decisions_that_must_agree() -> None:
    groups = TIED["SmolLM2-135M"].groups
    layer = "model.layers.7"
    assert groups[f"{layer}.self_attn.qkv_proj"] == tuple(f"{layer}.self_attn.{p}_proj" for p in "qkv")
    assert groups[f"{layer}.mlp.gate_up_proj"] == (f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj")
    assert groups[f"{layer}.mlp.down_proj"] == (f"{layer}.mlp.down_proj",)
    assert len(groups) == 30 * 4
    assert len(TIED["gpt-oss-20b"].groups) == 24 * 4
    assert len(UNTIED.groups) == 5 * 7


def test_the_whole_in_bf16_is_what_shares_are_taken_of() -> None:
    table = TIED["SmolLM2-135M"]
    for phase in PHASES:
        bf16 = cost("SmolLM2-135M", DEVICE, "bf16", phase.kind, phase.batch, phase.context)
        for metric in METRICS:
            assert table.wide_cost(metric, phase) == bf16.sum(metric)


def test_a_scenario_weighs_its_phases() -> None:
    table = TIED["SmolLM2-135M"]
    rows, fixed = table.scenario("latency_s", {PHASES[0]: 128.0, PHASES[1]: 1.0})
    first, second = (table.rows("latency_s", phase) for phase in PHASES)
    assert rows[3][2] == 128 * first[3][2] + second[3][2]
    assert fixed == 128 * table.fixed_cost("latency_s", PHASES[0]) + table.fixed_cost("latency_s", PHASES[1])


def test_only_the_searched_linears_are_decided() -> None:
    searched = ["model.layers.0.mlp.up_proj", "model.layers.1.self_attn.o_proj"]
    table = build_cost_table("stories260K", DEVICE, PAIRS, PHASES, searched=searched, tie=False)
    assert set(table.groups) == set(searched)
    assert table.wide_cost("dram_bytes", PHASES[0]) == pytest.approx(UNTIED.wide_cost("dram_bytes", PHASES[0]), rel=1e-14)
    with pytest.raises(UnknownNameError, match="unknown layer of stories260K"):
        build_cost_table("stories260K", DEVICE, PAIRS, PHASES, searched=["model.layers.9.mlp.up_proj"])


def test_a_budget_on_unknown_energy_is_refused() -> None:
    table = build_cost_table("stories260K", "b200", PAIRS, PHASES)
    with pytest.raises(MxsimError, match=r"energy_pj is not known on b200: it lacks .*mxfp4\.mac_energy_pj.*b200-fp4-half-fp8"):
        table.rows("energy_pj", PHASES[0])
    assert table.rows("latency_s", PHASES[0])


def test_bad_input_is_refused() -> None:
    table = TIED["stories260K"]
    with pytest.raises(MxsimError, match="probabilities must be 20 groups x 6 pairs"):
        table.relaxed([[1.0]], "latency_s", PHASES[0])
    with pytest.raises(UnknownNameError, match="unknown metric 'time'"):
        table.rows("time", PHASES[0])
    with pytest.raises(MxsimError, match="is not in this table"):
        table.rows("latency_s", Phase(batch=9))
    with pytest.raises(MxsimError, match="no pair is chosen for group"):
        table.total({}, "latency_s", PHASES[0])
    with pytest.raises(UnknownNameError, match="unknown pair of this table"):
        table.total(dict.fromkeys(table.groups, FormatPair("int4", "bf16")), "latency_s", PHASES[0])
    with pytest.raises(MxsimError, match="at least one format pair"):
        build_cost_table("stories260K", DEVICE, [], PHASES)
    with pytest.raises(MxsimError, match="at least one phase"):
        table.scenario("latency_s", {})
