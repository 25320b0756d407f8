"""Small checkpoints of the layouts that no real export is at hand for, written byte by byte: gpt-oss, Quark's former packing, AutoRound
in compressed-tensors' layout. Codes and scales are mxsim.quantize's, packed here by the oracle or by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

import mxsim
from mxsim.checkpoints import open_checkpoint
from mxsim.validation import validate
from tests.oracles.packing import pack_row

Array = npt.NDArray[Any]
BF16 = np.dtype(ml_dtypes.bfloat16)


def floats(*shape: int, seed: int = 0) -> Array:
    """Weights in bfloat16, with a block of zeros."""
    x = (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(BF16)
    x[..., 0, :32] = 0
    return x


def folder(path: Path, tensors: dict[str, Array], config: dict[str, Any]) -> Path:
    path.mkdir()
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


def packed(codes: Array, bits: int) -> Array:
    rows = [list(pack_row(row.tolist(), bits)) for row in codes.reshape(-1, codes.shape[-1])]
    return np.array(rows, np.uint8).reshape(*codes.shape[:-1], -1)


def flipped(path: Path, name: str, at: int = 5) -> None:
    """Flip the lowest bit of one byte of a tensor."""
    file = path / "model.safetensors"
    stored = open_checkpoint(path).tensors[name]
    data = bytearray(file.read_bytes())
    data[stored.begin + at] ^= 1
    file.write_bytes(data)


# gpt-oss: blocks (E, rows, in / 32, 16) and scales (E, rows, in / 32); the float model holds (E, in, rows).

EXPERTS = ("model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj")
GPT_OSS = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}}


def gpt_oss(path: Path, policy: str) -> tuple[Path, Path, dict[str, Array]]:
    """An export, its float original and the values (E, rows, in) that are stored."""
    original, stored, values = {}, {}, {}
    for n, (name, rows, columns) in enumerate(((EXPERTS[0], 48, 64), (EXPERTS[1], 64, 96))):
        x = floats(3, columns, rows, seed=n)
        q = mxsim.quantize(np.swapaxes(x, 1, 2), "mxfp4_e2m1", policy=policy)
        stored[f"{name}_blocks"] = packed(q.codes, 4).reshape(3, rows, columns // 32, 16)
        stored[f"{name}_scales"] = q.scales
        original[name], values[name] = x, q.dequantize()
    plain = {f"{name}_bias": floats(3, 64, seed=7).astype(BF16) for name in EXPERTS} | {"model.norm.weight": floats(1, 64)[0]}
    export = folder(path / "export", stored | plain, GPT_OSS)
    return export, folder(path / "float", original | plain, {}), values


@pytest.mark.parametrize("policy", ["ocp", "quark"])
def test_gpt_oss(policy: str, tmp_path: Path) -> None:
    export, original, values = gpt_oss(tmp_path, policy)
    read = open_checkpoint(export)
    assert (read.producer, read.findings) == ("gpt-oss", ())
    for weight in read.quantized:
        decoded = weight.tensor().dequantize().reshape(values[weight.weight].shape)
        assert np.array_equal(decoded.view(np.uint32), values[weight.weight].view(np.uint32))
    report = validate(export, original)
    assert report.ok, [v for v in report.tensors if v.status != "proven"]
    assert report.explains_all
    assert report.policy == policy
    assert validate(export).ok


@pytest.mark.parametrize("left", [EXPERTS[0], "model.layers.*.mlp.experts", "model.layers.0", "experts"])
def test_experts_of_gpt_oss_that_the_config_does_not_convert_are_found(left: str, tmp_path: Path) -> None:
    """As transformers reads it: from the start up to a dot, with wildcards, or as a name's end."""
    export, _, _ = gpt_oss(tmp_path, "ocp")
    config = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [left]}}
    (export / "config.json").write_text(json.dumps(config))
    found = [finding.where for finding in open_checkpoint(export).findings if "does not convert it" in finding.says]
    assert {*found} == {*EXPERTS[: 1 if left == EXPERTS[0] else 2]}


@pytest.mark.parametrize("part", ["_blocks", "_scales"])
def test_a_flipped_bit_of_gpt_oss_is_found_in_its_expert(part: str, tmp_path: Path) -> None:
    export, original, _ = gpt_oss(tmp_path, "ocp")
    expert_bytes = {"_blocks": 48 * 32, "_scales": 48 * 2}[part]
    flipped(export, EXPERTS[0] + part, 2 * expert_bytes + 20)
    report = validate(export, original)
    assert not report.ok
    (wrong,) = [v for v in report.tensors if v.status == "mismatch"]
    assert wrong.name == EXPERTS[0]
    assert all(example.index[0] >= 2 * 48 for example in wrong.examples), "rows of the third expert"


def test_gpt_oss_parts_go_together(tmp_path: Path) -> None:
    blocks = np.zeros((2, 32, 2, 16), np.uint8)
    export = folder(tmp_path / "export", {f"{EXPERTS[0]}_blocks": blocks, f"{EXPERTS[1]}_blocks": blocks,
                                          f"{EXPERTS[1]}_scales": np.zeros((2, 32, 1), np.uint8)}, GPT_OSS)  # fmt: skip
    said = {finding.where: finding.says for finding in open_checkpoint(export).findings}
    assert "missing" in said[f"{EXPERTS[0]}_scales"]
    assert "[2, 32, 2]" in said[f"{EXPERTS[1]}_scales"]
    assert not validate(export).ok


# Quark's former dtype "mx": FP6 in bit planes, scale bytes that are signed exponents.


def quark_spec(**changes: Any) -> dict[str, Any]:
    return {
        "dtype": "mx", "is_dynamic": False, "qscheme": "per_group", "group_size": 32, "ch_axis": -1, "mx_element_dtype": "fp6_e3m2",
        "is_scale_quant": False, "scale_format": "e8m0", "scale_calculation_mode": "even", "round_method": "half_even", **changes,
    }  # fmt: skip


def planes(codes: Array) -> Array:
    """Four codes to three bytes: their top two bits first, then their low nibbles, high nibble first."""
    out = []
    for a, b, c, d in codes.reshape(-1, 4).tolist():
        out += [a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6, (a & 15) << 4 | b & 15, (c & 15) << 4 | d & 15]
    return np.array(out, np.uint8).reshape(*codes.shape[:-1], -1)


def quark_legacy(path: Path, element: str, format: str) -> tuple[Path, Path, Any]:
    x = floats(16, 64)
    q = mxsim.quantize(x, format, policy="quark")
    name = "model.layers.0.mlp.up_proj"
    config = {
        "quant_method": "quark",
        "export": {"pack_method": "reorder", "weight_format": "real_quantized"},
        "global_quant_config": {"weight": quark_spec(mx_element_dtype=element)},
    }
    stored = {f"{name}.weight": planes(q.codes), f"{name}.weight_scale": (q.scales.astype(np.int16) - 127).astype(np.int8).view(np.uint8)}
    export = folder(path / "export", stored, {"quantization_config": config})
    return export, folder(path / "float", {f"{name}.weight": x}, {}), q


@pytest.mark.parametrize(("element", "format"), [("fp6_e3m2", "mxfp6_e3m2"), ("fp6_e2m3", "mxfp6_e2m3")])
def test_quark_legacy(element: str, format: str, tmp_path: Path) -> None:
    export, original, q = quark_legacy(tmp_path, element, format)
    read = open_checkpoint(export)
    assert (read.producer, read.findings) == ("quark", ())
    (weight,) = read.quantized
    assert weight.format == format
    assert np.array_equal(weight.tensor().dequantize().view(np.uint32), q.dequantize().view(np.uint32))
    report = validate(export, original)
    assert report.ok
    assert (report.policy, report.explains_all) == ("quark", True)


@pytest.mark.parametrize("suffix", ["weight", "weight_scale"])
def test_a_flipped_bit_of_quark_legacy_is_found(suffix: str, tmp_path: Path) -> None:
    export, original, _ = quark_legacy(tmp_path, "fp6_e3m2", "mxfp6_e3m2")
    flipped(export, f"model.layers.0.mlp.up_proj.{suffix}")
    assert not validate(export, original).ok


@pytest.mark.parametrize(("name", "config", "is_ok"), [
    ("lm_head", {}, True), ("model.embed_tokens", {"tie_word_embeddings": True}, True), ("model.embed_tokens", {}, False),
    ("other", {}, False),
])  # fmt: skip
def test_a_quantised_head_is_held_against_the_tensor_it_is_tied_to(name: str, config: Any, is_ok: bool, tmp_path: Path) -> None:
    x = floats(16, 64)
    q = mxsim.quantize(x, "mxfp6_e3m2", policy="quark")
    stored = {"lm_head.weight": planes(q.codes), "lm_head.weight_scale": (q.scales.astype(np.int16) - 127).astype(np.int8).view(np.uint8)}
    quark = {
        "quant_method": "quark",
        "export": {"pack_method": "reorder", "weight_format": "real_quantized"},
        "global_quant_config": {"weight": quark_spec()},
    }
    if is_ok and name != "lm_head":
        stored[f"{name}.weight"] = x
    export = folder(tmp_path / "export", stored, {"quantization_config": quark} | config)
    report = validate(export, folder(tmp_path / "float", {f"{name}.weight": x}, config))
    assert report.ok == is_ok, report.findings
    assert report.explains_all == is_ok
    assert any("is quantised, but the reference has no tensor" in finding.says for finding in report.findings) != is_ok


def test_quark_legacy_bytes_under_todays_label_are_found(tmp_path: Path) -> None:
    export, original, _ = quark_legacy(tmp_path, "fp6_e3m2", "mxfp6_e3m2")
    config = json.loads((export / "config.json").read_text())
    config["quantization_config"]["global_quant_config"]["weight"] = quark_spec(dtype="fp6_e3m2", mx_element_dtype=None)
    (export / "config.json").write_text(json.dumps(config))
    assert not validate(export, original).ok


# AutoRound's other layout: compressed-tensors' with a provider.

STORED = {"mxfp4_e2m1": ("mxfp4-pack-quantized", 4), "mxfp8_e4m3": ("mxfp8-quantized", 8)}


def auto_round(path: Path, format: str) -> tuple[Path, Path]:
    x, name, (stored_format, bits) = floats(24, 64), "model.layers.0.mlp.up_proj", STORED[format]
    q = mxsim.quantize(x, format, policy="auto-round")
    arguments = {"num_bits": bits, "type": "float", "symmetric": True, "group_size": 32, "strategy": "group", "scale_dtype": "torch.uint8"}
    config = {
        "quant_method": "compressed-tensors", "provider": "auto-round", "format": stored_format, "ignore": ["lm_head"],
        "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {**arguments, "dynamic": False}, "input_activations": {**arguments, "dynamic": True}}},
    }  # fmt: skip
    elements = {"weight_packed": packed(q.codes, 4)} if bits == 4 else {"weight": q.codes.view(ml_dtypes.float8_e4m3fn)}
    lm_head = floats(8, 64, seed=3)
    tensors = {f"{name}.{suffix}": array for suffix, array in {**elements, "weight_scale": q.scales}.items()}
    export = folder(path / "export", tensors | {"lm_head.weight": lm_head.astype(np.float32)}, {"quantization_config": config})
    return export, folder(path / "float", {f"{name}.weight": x, "lm_head.weight": lm_head}, {})


@pytest.mark.parametrize("format", STORED)
def test_auto_round_in_compressed_tensors_layout(format: str, tmp_path: Path) -> None:
    export, original = auto_round(tmp_path, format)
    report = validate(export, original)
    assert report.producer == "auto-round"
    assert report.ok, [*report.findings, *report.tensors]
    assert (report.policy, report.explains_all) == ("auto-round", True)
    assert all(v.status == "proven" for v in report.tensors), "lm_head too, after exact widening from bfloat16"


def test_the_zero_block_tells_auto_round_from_compressed_tensors(tmp_path: Path) -> None:
    """The same layout without the provider: the bytes are still AutoRound's."""
    export, original = auto_round(tmp_path, "mxfp4_e2m1")
    config = json.loads((export / "config.json").read_text())
    del config["quantization_config"]["provider"]
    (export / "config.json").write_text(json.dumps(config))
    report = validate(export, original)
    assert report.producer == "compressed-tensors"
    assert report.policy == "auto-round"
