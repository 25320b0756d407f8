"""Golden outputs beside an export: the exact oracle's bits, and refused for what a unit cannot compute before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dmx.errors import DmxError
from dmx.exporters import export
from dmx.models import LoadedModel, load_model
from mxsim.assignment import Assignment
from mxsim.storage_formats import FormatPair
from tests.dmx.small_models import random_model
from tests.oracles import golden


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(random_model("llama", intermediate_size=64, num_hidden_layers=1))


def assigned(model: LoadedModel, *pairs: str) -> Assignment:
    layers = {name: FormatPair.parse(pairs[n % len(pairs)]) for n, name in enumerate(model.linears)}
    return Assignment(layers=layers, skipped=model.skipped, policy="ocp")


CASES = {
    "nvidia_blackwell": ("mxfp4_e2m1", "mxfp8_e4m3", "mxfp6_e3m2:mxfp8_e5m2", "mxfp4_e2m1:mxfp6_e2m3", "mxfp8_e4m3:bf16"),
    "mx_exact": ("mxint8", "nvfp4", "nvfp4:bf16", "mxfp6_e2m3", "mxint8:mxfp4_e2m1", "mxfp8_e5m2"),
    "mx_fp32_chain": ("mxfp8_e4m3", "mxfp4_e2m1"),
}


@pytest.mark.parametrize("unit", CASES)
def test_golden_outputs_are_the_exact_oracles(unit: str, model: LoadedModel, tmp_path: Path) -> None:
    """From the files alone, by numpy, the safetensors library and fractions: nothing of mxsim computes what is expected."""
    folder = export(model, assigned(model, *CASES[unit]), "mxsim", tmp_path / "out", golden=2, unit=unit)
    held, stored = load_file(folder / "golden.safetensors"), load_file(folder / "model.safetensors")
    layers = json.loads((folder / "config.json").read_text())["quantization_config"]["layers"]
    assert {name.rpartition(".")[0] for name in held} == set(layers)
    for name, layer in layers.items():
        inputs = held[f"{name}.input"]
        assert inputs.shape == (2, layer["shape"][1])
        tensor_scale = stored.get(f"{name}.weight_tensor_scale")
        expected = golden.outputs(
            unit,
            inputs.view(np.uint32),
            layer["activation"],
            golden.unpacked(stored[f"{name}.weight_codes"], layer["weight"], layer["shape"][1]),
            stored[f"{name}.weight_scales"],
            layer["weight"],
            None if tensor_scale is None else int(tensor_scale.reshape(1).view(np.uint32)[0]),
        )
        assert np.array_equal(held[f"{name}.output"].view(np.uint32), expected), (name, layer)


@pytest.mark.parametrize(
    ("pairs", "unit", "named"),
    [
        (("mxfp4_e2m1", "mxint8"), "nvidia_blackwell", ["self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj"]),
        (("mxfp8_e4m3", "mxfp4_e2m1:nvfp4"), "mx_exact", ["self_attn.k_proj"]),
        (("mxfp4_e2m1",), "intel_amx", ["self_attn.q_proj", "mlp.down_proj"]),
    ],
)
def test_a_unit_without_a_path_is_refused_before_anything_is_written(
    pairs: tuple[str, ...], unit: str, named: list[str], model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmx.exporters.exporting._write", lambda *_: pytest.fail("writing has begun"))
    with pytest.raises(DmxError, match=f"{unit} cannot compute") as refused:
        export(model, assigned(model, *pairs), "mxsim", tmp_path / "deep" / "out", golden=1, unit=unit)
    for layer in named:
        assert f"model.layers.0.{layer}: " in str(refused.value)
    if len(pairs) > 1:
        assert "q_proj" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_unit_is_refused_before_anything_is_written(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DmxError, match="nvidia_blackwel"):
        export(model, assigned(model, "mxfp4_e2m1"), "mxsim", tmp_path / "out", golden=1, unit="nvidia_blackwel")
    assert not list(tmp_path.iterdir())


def test_without_golden_outputs_no_unit_is_looked_at_and_none_may_be_asked_for(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DmxError, match="'mx_exact' computes golden outputs, and none are asked for"):
        export(model, assigned(model, "mxint8"), "mxsim", tmp_path / "out", unit="mx_exact")
    assert export(model, assigned(model, "mxint8"), "mxsim", tmp_path / "out").is_dir()
