"""The committed summaries of measured GEMM tables and of ZigZag, against the shipped device files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mxsim.costing import cost
from mxsim.devices import load_device
from mxsim.devices.spec import Figure
from mxsim.pricing import Pricer
from mxsim.storage_formats import FormatPair, StorageFormat
from mxsim.traffic import linear_traffic
from mxsim.workload import LinearShape, linear_matmul

ROOT = Path(__file__).parents[2]
GEMMS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "latency" / "gemm_tables.json").read_text(encoding="utf-8"))["results"]
ZIGZAG: list[dict[str, Any]] = json.loads((ROOT / "tests" / "golden" / "cost" / "zigzag.json").read_text(encoding="utf-8"))["runs"]


@pytest.mark.parametrize("result", GEMMS, ids=[f"{result['device']} {result['type']}" for result in GEMMS])
def test_the_summary_is_of_the_figures_that_are_shipped(result: dict[str, Any]) -> None:
    path = load_device(result["device"]).path(result["path"])
    for key in ("compute_efficiency", "memory_efficiency", "launch_s"):
        figure = getattr(path, key)
        assert figure.value == pytest.approx(result[key], rel=1e-9)
        assert figure.kind == "derived"
        assert "calibrate.py" in figure.source
    assert result["calibrated"]["median"] < result["plain_roofline"]["median"] / 2


@pytest.mark.parametrize("device", ["h200", "b200"])
def test_held_out_gemms_are_within_tolerance(device: str) -> None:
    medians = {result["type"]: result["calibrated"]["median"] for result in GEMMS if result["device"] == device}
    assert medians.keys() >= {"bfloat16", "fp8"}
    for gemm_type, median in medians.items():
        assert median <= (0.25 if gemm_type == "nvfp4" else 0.15), gemm_type


@pytest.mark.parametrize(("pair", "measured_us"), [("bf16", 737), ("fp8_e4m3", 471), ("mxfp8_e4m3", 411), ("nvfp4", 285)])
def test_large_gemms_on_b200(pair: str, measured_us: float) -> None:
    matmul = linear_matmul(LinearShape(name="gemm", out_features=8192, in_features=8192), 8192)
    time = Pricer(load_device("b200")).price(matmul, FormatPair.parse(pair)).roofline
    assert time is not None
    assert time.latency_s * 1e6 == pytest.approx(measured_us, rel=0.15)
    assert time.bound == "compute"


@pytest.mark.parametrize(("pair", "tokens_per_s"), [("bf16", 95.6), ("int8:bf16", 153.0), ("int4:bf16", 180.8)])
def test_a_served_token_on_a100_with_merged_launches(pair: str, tokens_per_s: float) -> None:
    ours, apart = (cost("Llama-3.1-8B", "a100", pair, context=256, merge=merge).totals["tokens_per_s"] for merge in (True, False))
    assert ours == pytest.approx(tokens_per_s, rel=0.15)
    assert abs(ours / tokens_per_s - 1) < abs(apart / tokens_per_s - 1)


@pytest.mark.parametrize("run", ZIGZAG, ids=[f"W{run['weight_bits']}A{run['activation_bits']}" for run in ZIGZAG])
def test_zigzags_off_chip_energies_to_every_digit_under_its_loop_order(run: dict[str, Any]) -> None:
    """256 of 4096 rows of inputs are held at a time: weights are fetched 16 times."""
    assert "(B, 16)" in run["loops_innermost_first"].replace("'", "")
    weight, activation = (StorageFormat(name="plain", element_bits=run[key], source="ZigZag") for key in ("weight_bits", "activation_bits"))
    share = Figure(value=activation.matrix_bytes(256, 4096), kind="derived", source="a chunk of 256 rows")
    device = load_device("zigzag_tpu_like").with_figure("buffer.activation_share_bytes", share)
    matmul = linear_matmul(LinearShape(name="gemm", out_features=4096, in_features=4096), 4096)
    traffic = linear_traffic(matmul, weight, activation, device.buffer)
    read, write = device.memory.energy_pj_per_bit, device.memory.write_energy_pj_per_bit
    assert read is not None
    assert write is not None
    assert (traffic.weight_bytes + traffic.refetch_bytes) * 8 * read.value == run["memory_pj"]["W"][-1]
    assert traffic.activation_bytes * 8 * read.value == run["memory_pj"]["I"][-1]
    assert traffic.output_bytes * 8 * write.value == run["memory_pj"]["O"][-1]
