"""The cost and hardware commands: what they print, and how they refuse."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mxsim.assignment import Assignment
from mxsim.cli import cost, hardware
from mxsim.devices import device_names
from mxsim.errors import MxsimError, UnknownNameError
from mxsim.shapes import SHAPES
from mxsim.workload import Phase, build_workload

app = typer.Typer()
app.command("cost")(cost.command)
app.command("hardware")(hardware.command)


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_json_has_the_agreed_keys() -> None:
    content = run_json("cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "mxfp8_e4m3", "--phase", "decode", "--batch", "2")
    assert set(content) == {"layers", "totals", "provenance"}
    wanted = {"name", "macs", "weight_bytes", "activation_bytes", "dram_bytes", "energy_pj", "latency_s"}
    assert all(wanted <= set(layer) for layer in content["layers"])
    wanted = {"parameters", "weight_bytes", "kv_bytes_per_token", "bits_per_weight", "dram_bytes", "energy_pj", "latency_s"}
    assert wanted | {"tokens_per_s"} <= set(content["totals"])
    assert content["totals"]["weight_bytes"] == 9_299_304_448
    assert content["provenance"]["device"]["figures"]["memory.bandwidth_bytes_per_s"]["kind"] == "datasheet"


def test_missing_energy_is_null_until_an_assumption_is_accepted() -> None:
    call = ("cost", "SmolLM2-135M", "--hardware", "b200", "--format", "mxfp4_e2m1")
    assert run_json(*call)["totals"]["energy_pj"] is None
    assert run_json(*call, "--assume", "b200-fp4-half-fp8")["totals"]["energy_pj"] > 0


def test_several_choices_stand_side_by_side(tmp_path: Path) -> None:
    Assignment.uniform(build_workload(SHAPES["stories260K"], Phase(context=1)).linears, "nvfp4").save(tmp_path)
    call = ("cost", "stories260K", "--hardware", "h200", "--format", "bf16", "--format", "int8:bf16", "--assignment", str(tmp_path))
    text = run(*call)
    header = next(line for line in text.splitlines() if line.startswith("total"))
    assert "bf16" in header
    assert "int8:bf16" in header
    assert str(tmp_path) in header
    assert len(run_json(*call)["compared"]) == 3
    rows = list(csv.DictReader(io.StringIO(run(*call, "--csv"))))
    assert len(rows) == 3 * len(run_json(*call)["compared"][0]["layers"])
    assert {row["choice"] for row in rows} == {"bf16", "int8:bf16", str(tmp_path)}


@pytest.mark.parametrize("model", SHAPES)
def test_every_shape_has_a_table(model: str) -> None:
    text = run("cost", model, "--hardware", "b200", "--format", "mxfp8_e4m3")
    assert "model.layers.*.self_attn.q_proj" in text
    assert "tokens/s" in text
    assert "memory" in text


def test_folded_and_unfolded_tables() -> None:
    folded = run("cost", "stories260K", "--hardware", "b200", "--format", "bf16")
    whole = run("cost", "stories260K", "--hardware", "b200", "--format", "bf16", "--every-layer")
    assert "model.layers.4.mlp.down_proj" in whole
    assert "model.layers.4.mlp.down_proj" not in folded
    assert len(whole.splitlines()) == len(folded.splitlines()) + 4 * 8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cost", "Llama-3.1-8B", "--hardware", "b200"), MxsimError, "say which formats"),
        (("cost", "Llama-3.1-8B", "--hardware", "b2000", "--format", "bf16"), UnknownNameError, "did you mean 'b200'"),
        (("cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "bf16", "--batch", "0"), MxsimError, "batch 0"),
        (("cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "bf16", "--json", "--csv"), MxsimError, "exclude each other"),
        (("hardware", "nothing"), UnknownNameError, "unknown device"),
    ],
)
def test_bad_calls_are_refused(arguments: tuple[str, ...], error: type[MxsimError], message: str) -> None:
    with pytest.raises(error, match=message):
        run(*arguments)


def test_hardware_lists_devices_and_their_provenance() -> None:
    text = run("hardware")
    assert all(name in text for name in device_names())
    one = run("hardware", "b200")
    assert "b200-fp4-half-fp8" in one
    assert "NVIDIA Blackwell datasheet" in one
    described = run_json("hardware")["hardware"]
    assert [device["name"] for device in described] == list(device_names())
    for device in described:
        assert all(set(figure) == {"value", "kind", "source"} for figure in device["figures"].values())


def test_neither_torch_nor_numba_is_imported() -> None:
    program = (
        "import sys; from mxsim.costing import cost; cost('Llama-3.1-8B', 'b200', 'mxfp4_e2m1').to_json(); "
        "print([name for name in ('torch', 'numba', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
