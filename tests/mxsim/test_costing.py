"""Costs: bytes by hand, published points, and what must hold of any cost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxsim.assignment import Assignment
from mxsim.costing import CostReport, cost, price_workload
from mxsim.devices import device_names, load_device
from mxsim.devices.spec import Buffer, Figure
from mxsim.energy import matmul_energy
from mxsim.errors import MxsimError, UnknownNameError
from mxsim.pricing import LayerCost
from mxsim.roofline import padded_macs, roofline
from mxsim.shapes import SHAPES
from mxsim.storage_formats import STORAGE_FORMATS, FormatPair, StorageFormat
from mxsim.traffic import Traffic, fetches, linear_traffic
from mxsim.workload import LinearShape, Matmul, Phase, Workload, build_workload, linear_matmul

FORMAT = st.sampled_from(sorted(STORAGE_FORMATS))
DEVICE = st.sampled_from(device_names())
SIZE = st.integers(1, 700)


def everything_assumed(name: str) -> Any:
    device = load_device(name)
    return load_device(name, assume=[assumption.name for assumption in device.assumptions])


def by_name(report: CostReport) -> dict[str, LayerCost]:
    return {layer.name: layer for layer in report.layers}


def share(value: float) -> Figure:
    return Figure(value=value, kind="assumed", source="a test")


@pytest.mark.parametrize(
    ("name", "bits"), [("mxfp4_e2m1", 4.25), ("nvfp4", 4.5), ("mxfp6_e2m3", 6.25), ("mxfp8_e5m2", 8.25), ("mxint8", 8.25), ("int4", 4)]
)
def test_scales_are_counted(name: str, bits: float) -> None:
    assert STORAGE_FORMATS[name].bits_per_element == bits


@given(FORMAT, SIZE, SIZE)
def test_bytes_are_exact_for_odd_shapes(name: str, rows: int, k: int) -> None:
    form = STORAGE_FORMATS[name]
    blocks = sum(1 for start in range(0, k, form.block_size))
    bits = rows * blocks * (form.block_size * form.element_bits + form.scale_bits) + (32 if name == "nvfp4" else 0)
    assert form.matrix_bytes(rows, k) * 8 == bits


@given(SIZE, SIZE)
def test_mxfp4_is_never_larger_than_mxfp8(rows: int, k: int) -> None:
    sizes = [STORAGE_FORMATS[name].matrix_bytes(rows, k) for name in ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@pytest.mark.parametrize(
    ("pair", "gigabytes"),
    [
        ("bf16", 16.0605),
        ("fp8_e4m3", 9.0812),
        ("mxfp8_e4m3", 9.2993),
        ("nvfp4", 6.0277),
        ("mxfp4_e2m1", 5.8096),
        ("mxfp6_e2m3", 7.5545),
    ],
)
def test_llama_8b_by_format_arithmetic(pair: str, gigabytes: float) -> None:
    """6 979 321 856 weights in the linears; embeddings, lm_head and norms, 1 050 939 392 elements, in bf16."""
    report = cost("Llama-3.1-8B", "b200", pair)
    form = STORAGE_FORMATS[pair]
    expected = 6_979_321_856 * form.bits_per_element / 8 + 2 * 1_050_939_392 + (4 * 224 if pair == "nvfp4" else 0)
    assert report.totals["weight_bytes"] == expected
    assert expected / 1e9 == pytest.approx(gigabytes, rel=1e-5)


@pytest.mark.parametrize(("model", "gibibytes"), [("gpt-oss-120b", 60.77), ("gpt-oss-20b", 12.82)])
def test_gpt_oss_checkpoints(model: str, gibibytes: float) -> None:
    report = cost(model, "b200", "mxfp4_e2m1:bf16", only=["*.experts.*"])
    assert report.totals["weight_bytes"] / 2**30 == pytest.approx(gibibytes, rel=1e-3)


def test_llama_70b_reads_each_weight_once_a_token() -> None:
    report = cost("Llama-3.3-70B", "b200", "nvfp4")
    read = sum(layer.price.traffic.weight_bytes for layer in report.layers if layer.matmul.kind != "embedding")
    assert read / 1e9 == pytest.approx(40.605, rel=1e-3)


@pytest.mark.parametrize(
    ("kv", "each"), [("bf16", 131072), ("fp8_e4m3", 65536), ("nvfp4", 36864), ("mxfp4_e2m1", 34816), ("bf16:fp8_e4m3", 98304)]
)
def test_kv_bytes_count_kv_heads_with_scales(kv: str, each: int) -> None:
    report = cost("Llama-3.1-8B", "b200", "bf16", kv_format=kv, context=1000, batch=3)
    assert report.totals["kv_bytes_per_token"] == each
    moved = sum(layer.price.traffic.kv_bytes for layer in report.layers)
    assert moved == 3 * (1000 + 1) * each


def test_decode_reads_one_embedding_row_a_sequence() -> None:
    layer = by_name(cost("Llama-3.1-8B", "b200", "mxfp4_e2m1", batch=5))["model.embed_tokens"]
    assert layer.price.traffic.dram_bytes == 5 * 4096 * 2
    assert layer.price.traffic.stored_weight_bytes == 128256 * 4096 * 2


def test_only_the_linears_take_the_format() -> None:
    report = cost("gpt-oss-20b", "b200", "mxfp4_e2m1")
    kinds = {layer.matmul.kind for layer in report.layers if layer.pair != FormatPair("bf16", "bf16")}
    assert kinds == {"linear"}


def test_a_linear_by_hand() -> None:
    """b200, MXFP8, M = 8, N = 4096, K = 4096, every term from the device file's figures."""
    layer = by_name(cost("Llama-3.1-8B", "b200", "mxfp8_e4m3", batch=8))["model.layers.3.self_attn.o_proj"]
    figures = {key: figure.value for key, figure in load_device("b200").figures()}
    traffic, energy, time = layer.price.traffic, layer.price.energy, layer.price.roofline
    assert time is not None
    weight, activation, output = 4096 * 128 * 33, 8 * 128 * 33, 8 * 4096 * 2
    quantise = 8 * 4096 * 2 + activation
    assert traffic.dram_bytes == weight + activation + output + quantise
    rate = 7.7e12 * figures["compute.mxfp8.memory_efficiency"]
    compute = 2 * 16 * 4096 * 4096 / (4.5e15 * figures["compute.mxfp8.compute_efficiency"])
    expected = max(compute, (weight + activation + output) / rate) + quantise / rate + figures["compute.mxfp8.launch_s"]
    assert time.latency_s == pytest.approx(expected, rel=1e-12)
    assert energy.mac_pj == pytest.approx(8 * 4096 * 4096 * 0.6, rel=1e-12)
    assert energy.dram_pj == pytest.approx(8 * traffic.dram_bytes * 7.55, rel=1e-12)
    assert energy.static_pj == pytest.approx(420 * expected * 1e12, rel=1e-12)
    assert energy.quantise_pj == 8 * 4096 * 0.5
    assert energy.sram_pj == 0


def test_sram_traffic_by_hand() -> None:
    buffer = Buffer(weight_reuse=share(128), activation_reuse=share(64), accumulator_bits=share(32))
    matmul = linear_matmul(LinearShape(name="l", out_features=64, in_features=32), 10)
    traffic = linear_traffic(matmul, STORAGE_FORMATS["mxfp4_e2m1"], STORAGE_FORMATS["mxfp8_e4m3"], buffer)
    assert traffic.sram_bits == 10 * 64 * 32 * (4.25 / 128 + 8.25 / 64) + 2 * 10 * 64 * 32


def test_refetches() -> None:
    buffer = Buffer(weight_share_bytes=share(100), activation_share_bytes=share(50))
    assert fetches(100, 1e9, buffer) == (1, 1)
    assert fetches(1e9, 50, buffer) == (1, 1)
    assert fetches(101, 101, Buffer(weight_share_bytes=share(50), activation_share_bytes=share(100))) == (2, 1)
    assert fetches(101, 1000, buffer) == (1, 2)
    assert fetches(1e9, 1e9, Buffer()) == (1, 1)


@settings(max_examples=60, deadline=None)
@given(DEVICE, FORMAT, FORMAT, SIZE, SIZE, SIZE)
def test_cost_is_never_negative_and_grows_with_tokens(device: str, w: str, a: str, tokens: int, n: int, k: int) -> None:
    machine = everything_assumed(device)
    path = machine.path_for(FormatPair(w, a))
    last: tuple[float, ...] = (0,) * 7
    for m in (tokens, tokens + 1, 2 * tokens + 1):
        matmul = linear_matmul(LinearShape(name="l", out_features=n, in_features=k), m)
        traffic = linear_traffic(matmul, STORAGE_FORMATS[w], STORAGE_FORMATS[a], machine.buffer)
        time = roofline(matmul, traffic, path, machine)
        energy = matmul_energy(matmul, traffic, path, machine, time and time.latency_s)
        terms = (energy.mac_pj, energy.sram_pj, energy.dram_pj, energy.quantise_pj)
        known = (traffic.dram_bytes, traffic.sram_bits, *(term or 0.0 for term in terms), time.latency_s if time else 0.0)
        assert all(new >= old for new, old in zip(known, last, strict=True))
        last = known
    assert last[0] > 0


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), DEVICE, FORMAT, st.sampled_from(["decode", "prefill"]), st.integers(1, 8), st.integers(1, 500))
def test_totals_are_the_sums_of_the_layers(model: str, device: str, pair: str, phase: str, batch: int, context: int) -> None:
    report = cost(model, device, pair, phase, batch, context)
    content = report.to_json()
    totals, layers = content["totals"], content["layers"]
    for metric in ("weight_bytes", "dram_bytes", "energy_pj", "latency_s"):
        values = [layer[metric] for layer in layers]
        if None in values:
            assert metric in ("energy_pj", "latency_s")
            assert totals[metric] is None
            assert report.missing
        else:
            assert all(value >= 0 for value in values)
            assert totals[metric] == pytest.approx(math.fsum(values), rel=1e-12)
    assert totals["parameters"] == sum(layer["parameters"] for layer in layers)
    terms = ("energy_mac_pj", "energy_sram_pj", "energy_dram_pj", "energy_quantise_pj", "energy_static_pj")
    for layer in layers:
        if layer["energy_pj"] is not None:
            assert layer["energy_pj"] == pytest.approx(sum(layer[term] for term in terms), rel=1e-12)
        if layer["latency_s"] is not None:
            longest = max(layer["compute_s"], layer["memory_s"]) + layer["quantise_s"] + layer["overhead_s"]
            assert layer["latency_s"] == pytest.approx(longest, rel=1e-12)


def test_attention_is_affine_in_the_context() -> None:
    bytes_at = [
        by_name(cost("Qwen3-4B", "b200", "bf16", context=c))["model.layers.0.self_attn.attention"].price.traffic.dram_bytes
        for c in (100, 200, 300)
    ]
    assert bytes_at[2] - bytes_at[1] == bytes_at[1] - bytes_at[0] == 100 * 2 * 8 * 128 * 2


def test_latency_can_invert_where_bytes_cannot() -> None:
    """A small layer is bound by the launch: NVFP4 takes fewer bytes than bf16, and longer."""
    bf16 = by_name(cost("Llama-3.1-8B", "b200", "bf16"))["model.layers.0.self_attn.k_proj"].price
    nvfp4 = by_name(cost("Llama-3.1-8B", "b200", "nvfp4"))["model.layers.0.self_attn.k_proj"].price
    assert bf16.roofline is not None
    assert nvfp4.roofline is not None
    assert nvfp4.traffic.dram_bytes < bf16.traffic.dram_bytes
    assert nvfp4.roofline.latency_s > bf16.roofline.latency_s
    assert nvfp4.roofline.bound == "overhead"


def test_merged_linears_share_one_launch_one_quantise_pass_and_one_input() -> None:
    """Bytes stored stay; three launches become one for q, k and v, two become one for gate and up."""
    alone, merged = (cost("Llama-3.1-8B", "b200", "nvfp4", batch=128, merge=merge) for merge in (False, True))
    assert merged.sum("weight_bytes") == alone.sum("weight_bytes")
    apart, together = by_name(alone), by_name(merged)
    figures = {key: figure.value for key, figure in load_device("b200").figures()}
    one_pass = 128 * 4096 * 2 + 128 * 4096 * 4.5 / 8 + 4
    for names in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        prices = [together[f"model.layers.5.{name}"].price for name in names]
        assert math.fsum(price.traffic.quantise_bytes for price in prices) == pytest.approx(one_pass, rel=1e-12)
        assert math.fsum(price.energy.quantise_pj or 0 for price in prices) == pytest.approx(128 * 4096 * 0.5, rel=1e-12)
        launches = math.fsum(price.roofline.launch_s for price in prices if price.roofline)
        assert launches == pytest.approx(figures["compute.nvfp4.launch_s"], rel=1e-12)
        inputs = math.fsum(price.traffic.activation_bytes for price in prices)
        assert inputs == pytest.approx(128 * 4096 * 4.5 / 8 + 4, rel=1e-12)
    for name in ("model.layers.5.self_attn.o_proj", "model.layers.5.mlp.down_proj", "lm_head"):
        assert together[name].price == apart[name].price


def test_linears_of_one_input_that_differ_in_format_are_not_merged() -> None:
    layers = dict.fromkeys(build_workload(SHAPES["stories260K"], Phase(context=64)).linears, FormatPair("nvfp4", "nvfp4"))
    layers["model.layers.2.mlp.up_proj"] = FormatPair("mxfp8_e4m3", "mxfp8_e4m3")
    reports = [by_name(cost("stories260K", "b200", Assignment(layers=layers), context=64, merge=merge)) for merge in (False, True)]
    for layer in ("mlp.up_proj", "mlp.gate_proj"):
        prices = [report[f"model.layers.2.{layer}"].price for report in reports]
        assert prices[0] == prices[1]
    assert reports[1]["model.layers.1.mlp.up_proj"].matmul.merged == 2


def test_a_pair_without_a_path_is_widened_and_says_so() -> None:
    layer = by_name(cost("Llama-3.1-8B", "b200", "mxfp4_e2m1:bf16"))["model.layers.0.mlp.up_proj"]
    assert (layer.price.path, layer.price.is_native) == ("bf16", False)
    assert layer.price.traffic.quantise_bytes == 0


def test_energy_is_empty_without_a_figure_and_there_under_an_assumption() -> None:
    report = cost("Llama-3.1-8B", "b200", "mxfp4_e2m1")
    assert report.totals["energy_pj"] is None
    assert report.missing == ("compute.mxfp4.mac_energy_pj",)
    assert by_name(report)["lm_head"].price.energy.total_pj is not None
    assumed = cost("Llama-3.1-8B", "b200", "mxfp4_e2m1", assume=["b200-fp4-half-fp8"])
    assert assumed.totals["energy_pj"] > 0
    assert "b200-fp4-half-fp8" in assumed.provenance()["assumptions"]


def test_devices_without_rates_give_energy_only() -> None:
    report = cost("SmolLM2-135M", "jouppi_7nm", "int8")
    assert report.totals["latency_s"] is None
    assert report.totals["tokens_per_s"] is None
    assert report.totals["energy_pj"] > 0


def test_a_step_overhead_adds_once() -> None:
    bare, slow = (cost("Llama-3.1-8B", "b200", "bf16", batch=4, step_overhead_s=s).totals for s in (0.0, 1e-3))
    assert slow["latency_s"] == pytest.approx(bare["latency_s"] + 1e-3)
    assert slow["tokens_per_s"] == pytest.approx(4 / slow["latency_s"])


def test_static_power_is_drawn_during_a_steps_overhead_too() -> None:
    bare, slow = (cost("Llama-3.1-8B", "b200", "bf16", step_overhead_s=s).totals for s in (0.0, 1e-2))
    assert slow["energy_pj"] == pytest.approx(bare["energy_pj"] + 420 * 1e-2 * 1e12, rel=1e-12)
    assert slow["energy_by_term_pj"]["static"] == pytest.approx(420 * slow["latency_s"] * 1e12, rel=1e-6)
    assert math.fsum(slow["energy_by_term_pj"].values()) == pytest.approx(slow["energy_pj"], rel=1e-12)
    assert cost("Llama-3.1-8B", "h200", "bf16", step_overhead_s=1e-2).totals["energy_by_term_pj"]["static"] is None


def test_every_layers_time_is_under_what_bounds_it() -> None:
    totals = cost("gpt-oss-20b", "b200", "mxfp4_e2m1", phase="prefill", batch=3, context=700, step_overhead_s=1e-3).totals
    assert math.fsum(totals["latency_by_bound_s"].values()) == pytest.approx(totals["latency_s"] - 1e-3, rel=1e-12)


@pytest.mark.parametrize(("batch", "rows"), [(128, 16), (129, 32), (256, 32), (257, 48)])
def test_a_mean_of_rows_just_above_whole_tiles_fills_no_tile_more(batch: int, rows: int) -> None:
    """4 of 32 experts a token: a batch of 128 tokens wakes 32 less a millionth, of 16 rows and less than a millionth."""
    layer = by_name(cost("gpt-oss-20b", "rtx_5090", "mxfp4_e2m1", batch=batch))["model.layers.0.mlp.experts.down_proj"]
    assert padded_macs(layer.matmul, load_device("rtx_5090")) / layer.matmul.instances == pytest.approx(rows * 2880 * 2944, rel=1e-12)


def test_moe_counts_expected_experts_in_traffic_and_all_in_storage() -> None:
    layer = by_name(cost("Qwen3-30B-A3B", "b200", "bf16", batch=1))["model.layers.0.mlp.experts.down_proj"]
    assert layer.price.traffic.weight_bytes == pytest.approx(8 * 2048 * 768 * 2)
    assert layer.price.traffic.stored_weight_bytes == 128 * 2048 * 768 * 2
    many = by_name(cost("Qwen3-30B-A3B", "b200", "bf16", batch=4096))["model.layers.0.mlp.experts.down_proj"]
    assert many.price.traffic.weight_bytes == pytest.approx(128 * 2048 * 768 * 2)


def test_an_assignment_its_file_and_a_uniform_pair_agree(tmp_path: Path) -> None:
    linears = build_workload(SHAPES["SmolLM2-135M"], Phase()).linears
    assignment = Assignment.uniform(linears, "mxfp8_e4m3")
    assignment.save(tmp_path)
    reports = [cost("SmolLM2-135M", "b200", choice) for choice in (assignment, tmp_path / "assignment.json", "mxfp8_e4m3")]
    assert len({json.dumps(report.totals) for report in reports}) == 1


def test_layers_left_out_of_an_assignment_stay_bf16() -> None:
    name = "model.layers.0.mlp.up_proj"
    report = cost("SmolLM2-135M", "b200", Assignment(layers={name: FormatPair("nvfp4", "nvfp4")}))
    assert {layer.name for layer in report.layers if layer.pair.weight == "nvfp4"} == {name}


def test_one_string_is_one_assumption_or_pattern() -> None:
    one = cost("SmolLM2-135M", "b200", "mxfp4_e2m1", assume="b200-fp4-half-fp8", only="*q_proj")
    several = cost("SmolLM2-135M", "b200", "mxfp4_e2m1", assume=["b200-fp4-half-fp8"], only=["*q_proj"])
    assert one.to_json() == several.to_json()


def test_a_file_must_say_of_every_linear_what_it_takes(tmp_path: Path) -> None:
    linears = build_workload(SHAPES["SmolLM2-135M"], Phase()).linears
    Assignment.uniform(linears[:-2], "nvfp4").save(tmp_path)
    with pytest.raises(MxsimError, match=f"says nothing of 2 linears of SmolLM2-135M, such as '{linears[-2]}'.*skipped"):
        cost("SmolLM2-135M", "b200", tmp_path)
    replace(Assignment.uniform(linears[:-2], "nvfp4"), skipped=linears[-2:]).save(tmp_path)
    report = cost("SmolLM2-135M", "b200", tmp_path)
    assert {layer.name for layer in report.layers if layer.pair.weight == "nvfp4"} == set(linears[:-2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch": 0}, MxsimError, "batch 0"),
        ({"context": 200_000}, MxsimError, "context 200000 is longer than Llama-3.1-8B allows"),
        ({"hardware": "b100"}, UnknownNameError, "unknown device 'b100': did you mean"),
        ({"assignment": "mxfp5"}, UnknownNameError, "unknown format 'mxfp5'"),
        ({"kv_format": "fp7"}, UnknownNameError, "unknown format 'fp7'"),
        (
            {"assignment": Assignment.uniform(["model.layers.0.mlp.up"], "bf16")},
            UnknownNameError,
            "did you mean 'model.layers.0.mlp.up_proj'",
        ),
        ({"only": ["experts"]}, MxsimError, "pattern 'experts' matches none"),
        ({"assume": ["x"]}, UnknownNameError, "unknown assumption of b200 'x'"),
        ({"step_overhead_s": -1.0}, MxsimError, "step_overhead_s"),
        ({"step_overhead_s": "1"}, MxsimError, "step_overhead_s = '1' must be a finite number"),
        ({"step_overhead_s": None}, MxsimError, "step_overhead_s = None"),
        ({"step_overhead_s": True}, MxsimError, "step_overhead_s = True"),
        ({"step_overhead_s": float("nan")}, MxsimError, "step_overhead_s = nan"),
        ({"step_overhead_s": 10**400}, MxsimError, "step_overhead_s = 1"),
        ({"kv_format": None}, MxsimError, "format pair None is no string"),
        ({"only": [5]}, MxsimError, r"only = \[5\] must be a list of strings"),
        ({"only": 5}, MxsimError, "only = 5 must be a list of strings"),
        ({"assume": 5}, MxsimError, "assume = 5 must be a list of strings"),
        ({"assume": [[]]}, MxsimError, r"assume = \[\[\]\] must be a list of strings"),
        ({"assignment": "nowhere.json"}, MxsimError, "cannot be read"),
        ({"model": None}, MxsimError, "model is None: pass a name"),
        ({"hardware": None}, MxsimError, "hardware is None: pass a device's name"),
        ({"assignment": None}, MxsimError, "assignment is None: pass an Assignment"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], error: type[MxsimError], message: str) -> None:
    call: dict[str, Any] = {"model": "Llama-3.1-8B", "hardware": "b200", "assignment": "bf16", **arguments}
    with pytest.raises(error, match=message):
        cost(**call)


def test_the_example_of_zigzag_to_every_digit_of_its_dram_terms() -> None:
    """ZigZag 3.9.1, tpu_like, 4096^3: W8A8 as its own loop order has it, weights fetched for each of 16 chunks of 256 rows."""
    device = load_device("zigzag_tpu_like")
    int8 = STORAGE_FORMATS["int8"]
    matmul = linear_matmul(LinearShape(name="gemm", out_features=4096, in_features=4096), 4096)
    traffic = linear_traffic(matmul, int8, int8, device.buffer)
    assert fetches(2**24, 2**24, device.buffer) == (16, 1)
    memory = device.memory
    assert memory.energy_pj_per_bit is not None
    assert memory.write_energy_pj_per_bit is not None
    weights = (traffic.weight_bytes + traffic.refetch_bytes) * 8 * memory.energy_pj_per_bit.value
    assert weights == 23488102400.0
    assert traffic.activation_bytes * 8 * memory.energy_pj_per_bit.value == 1468006400.0
    assert traffic.output_bytes * 8 * memory.write_energy_pj_per_bit.value == 3145728000.0
    unquantised = replace(traffic, quantise_bytes=0, written_bytes=traffic.output_bytes)
    energy = matmul_energy(matmul, unquantised, device.path("int"), device, None)
    assert energy.total_pj == pytest.approx(43.9219063e9, rel=0.005)


def test_a_workload_of_ones_own_can_be_priced() -> None:
    shape = SHAPES["stories260K"]
    workload = build_workload(shape, Phase(context=8))
    half = Workload(shape=shape, phase=workload.phase, operations=workload.operations[:10])
    report = price_workload(half, load_device("b200"), {})
    assert report.sum("dram_bytes") == math.fsum(layer.price.traffic.dram_bytes for layer in report.layers)


def test_formats_outside_the_table_can_be_priced() -> None:
    six = StorageFormat(name="int6", element_bits=6, source="a test")
    matmul = linear_matmul(LinearShape(name="l", out_features=5, in_features=7), 3)
    assert linear_traffic(matmul, six, six, Buffer()).weight_bytes == 5 * 7 * 6 / 8
    assert isinstance(matmul, Matmul)
    assert Traffic().dram_bytes == 0
