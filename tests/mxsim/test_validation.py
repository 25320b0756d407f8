"""mxsim validate on real exports: every one explained, every flipped bit found, causes named; and readers that broken files cannot hurt."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mxsim.checkpoints import open_checkpoint
from mxsim.checkpoints.safetensors_file import SafetensorsFile
from mxsim.errors import MxsimError
from mxsim.validation import Report, validate

DATA = os.environ.get("MXSIM_SHARED_DATA")
ROOT = Path(DATA or "") / "checkpoints"
EXPORTS = {
    "ct_MXFP4": "compressed-tensors",
    "ct_MXFP8": "compressed-tensors",
    "ct_NVFP4A16": "compressed-tensors",
    "mo_MXFP4_DEFAULT_CFG": "modelopt",
    "mo_MXFP8_DEFAULT_CFG": "modelopt",
    "mo_NVFP4_DEFAULT_CFG": "modelopt",
    "quark_mxfp4": "quark",
    "quark_mxfp6_e3m2": "quark",
    "ar_MXFP4_auto_round": "auto-round",
}
needs_data = pytest.mark.skipif(DATA is None, reason="MXSIM_SHARED_DATA is not set: the checkpoints are not at hand")


def copied(name: str, to: Path) -> Path:
    shutil.copytree(ROOT / name, to)
    for path in [to, *to.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return to


def against_original(folder: Path) -> Report:
    return validate(folder, ROOT / "tiny")


@needs_data
@pytest.mark.parametrize(("name", "policy"), EXPORTS.items())
def test_every_export_is_explained(name: str, policy: str) -> None:
    report = against_original(ROOT / name)
    assert report.ok
    assert report.explains_all
    assert (report.producer, report.policy) == (policy, policy)
    assert not report.findings
    calibrated = [v.name for v in report.tensors if v.status != "proven"]
    assert all(tensor.endswith("input_scale") for tensor in calibrated)
    assert bool(calibrated) == (name == "mo_NVFP4_DEFAULT_CFG")


@needs_data
def test_a_quantised_weight_that_the_reference_lacks_is_a_finding(tmp_path: Path) -> None:
    tensors = load_file(ROOT / "tiny" / "model.safetensors")
    lacking = "model.layers.0.mlp.up_proj.weight"
    for names in ([lacking], [name for name in tensors if name.endswith("_proj.weight")]):
        folder = copied("tiny", tmp_path / str(len(names)))
        save_file({name: array for name, array in tensors.items() if name not in names}, folder / "model.safetensors")
        report = validate(ROOT / "ct_MXFP4", folder)
        assert not report.ok
        assert [f.where for f in report.findings if "is quantised, but the reference has no tensor of that name" in f.says] == sorted(names)


@needs_data
@pytest.mark.parametrize("name", ["ct_MXFP4", "quark_mxfp6_e3m2", "ct_NVFP4A16"])
def test_every_flipped_tensor_bit_is_found(name: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path / "flipped")
    path = folder / "model.safetensors"
    clean = bytearray(path.read_bytes())
    start = 8 + struct.unpack_from("<Q", clean)[0]
    rng = np.random.default_rng(0)
    for _ in range(15):
        at, bit = int(rng.integers(start, len(clean))), int(rng.integers(8))
        flipped = clean.copy()
        flipped[at] ^= 1 << bit
        path.write_bytes(flipped)
        report = against_original(folder)
        assert not report.ok, (at, bit)
        assert sum(v.status == "mismatch" for v in report.tensors) == 1


@needs_data
def test_a_scale_offset_applied_twice_is_named(tmp_path: Path) -> None:
    folder = copied("ct_MXFP4", tmp_path / "offset")
    data = bytearray((folder / "model.safetensors").read_bytes())
    for name, stored in SafetensorsFile(folder / "model.safetensors").tensors.items():
        if name.endswith("weight_scale"):
            for at in range(stored.begin, stored.end):
                data[at] = max(data[at] - 2, 0)
    (folder / "model.safetensors").write_bytes(data)
    report = against_original(folder)
    assert not report.ok
    assert all("scale offset" in v.causes for v in report.tensors if v.format == "mxfp4_e2m1")
    assert {e.cause for v in report.tensors for e in v.examples} <= {cause for v in report.tensors for cause in v.causes}
    alone = validate(folder)
    assert not alone.ok
    assert any("implausible" in finding.says for finding in alone.findings)


@needs_data
@pytest.mark.parametrize(
    ("name", "suffix", "byte", "says", "is_wrong"),
    [
        ("ct_MXFP8", "weight_scale", 255, "scale codes are NaN", True),
        ("ct_MXFP8", "weight_scale", 254, "scale codes are 254, the largest", False),
        ("ct_MXFP8", "weight_scale", 0, "scale codes are 0, the smallest", False),
        ("ct_MXFP8", "weight", 0x7F, "element codes are reserved", True),
        ("ct_MXFP8", "weight", 0xFF, "element codes are reserved", True),
        ("ct_NVFP4A16", "weight_scale", 0x7F, "scale codes are NaN", True),
        ("ct_NVFP4A16", "weight_scale", 0xB8, "scale codes are negative", True),
    ],
)
def test_codes_that_stand_out_are_told_without_a_reference(
    name: str, suffix: str, byte: int, says: str, is_wrong: bool, tmp_path: Path
) -> None:
    folder = copied(name, tmp_path / "codes")
    assert not any(says in finding.says for finding in validate(folder).findings)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    stored = next(t for n, t in SafetensorsFile(path).tensors.items() if n.endswith(f"k_proj.{suffix}"))
    data[stored.begin] = byte
    path.write_bytes(data)
    report = validate(folder)
    (finding,) = (finding for finding in report.findings if says in finding.says)
    assert finding.says.startswith("1 ")
    assert report.ok != is_wrong


@needs_data
def test_bytes_of_another_producer_are_recognised(tmp_path: Path) -> None:
    """ModelOpt's bytes under Quark's name: both store the same tensors."""
    folder = copied("quark_mxfp4", tmp_path / "swapped")
    shutil.copy(ROOT / "mo_MXFP4_DEFAULT_CFG" / "model.safetensors", folder / "model.safetensors")
    report = against_original(folder)
    assert report.policy == "modelopt"
    assert report.explains_all
    assert report.ok


def set_mode(config: Any) -> None:
    config["global_quant_config"]["weight"]["scale_calculation_mode"] = "floor"


@needs_data
@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("quark_mxfp4", "scale_calculation_mode", set_mode),
        ("ar_MXFP4_auto_round", "data_type", lambda c: c.update(data_type="mx_fp_rceil")),
    ],
)
def test_a_config_that_names_another_scale_rule_than_the_bits_is_found(name: str, key: str, change: Any, tmp_path: Path) -> None:
    folder = copied(name, tmp_path / "changed")
    for path in [*folder.rglob("config.json"), *folder.rglob("quantization_config.json")]:
        config = json.loads(path.read_text())
        change(config.get("quantization_config", config))
        path.write_text(json.dumps(config))
    report = against_original(folder)
    assert not report.ok
    assert report.explains_all
    assert [finding.where.rpartition(".")[2] for finding in report.findings] == [key]


@needs_data
def test_shards_that_no_runtime_loads_are_refused(tmp_path: Path) -> None:
    """model.safetensors stands before the shards; as the only shard it is what the index says."""
    folder = copied("ct_MXFP4", tmp_path / "shards")
    whole = folder / "model.safetensors"
    names = list(SafetensorsFile(whole).tensors)
    for shard in (whole.name, "model-00001-of-00001.safetensors"):
        shutil.copy(whole, tmp_path / "shard")
        shutil.copy(tmp_path / "shard", folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
        if shard == whole.name:
            assert against_original(folder).ok
    for checkpoint, reference in ((folder, None), (ROOT / "ct_MXFP4", folder)):
        with pytest.raises(MxsimError, match=r"loads model\.safetensors, not the shards; remove"):
            validate(checkpoint, reference)
    whole.unlink()
    assert against_original(folder).ok


@needs_data
def test_without_a_reference_it_says_what_is_not_proven() -> None:
    report = validate(ROOT / "mo_NVFP4_DEFAULT_CFG")
    assert report.ok
    assert {v.status for v in report.tensors} == {"not provable"}
    assert any("--reference" in limit for limit in report.limits)


@needs_data
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ct_MXFP4", lambda c: c["config_groups"]["group_0"]["weights"].update(group_size=16)),
        ("ct_MXFP4", lambda c: c.update(ignore=[])),
        ("ct_NVFP4A16", lambda c: c["config_groups"]["group_0"].update(input_activations=NVFP4_INPUTS)),
        ("mo_NVFP4_DEFAULT_CFG", lambda c: c["config_groups"]["group_0"].update(input_activations=None)),
        ("quark_mxfp4", lambda c: c["global_quant_config"]["weight"].update(group_size=16)),
        ("ar_MXFP4_auto_round", lambda c: c.update(act_bits=16)),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_found(name: str, change: Any, tmp_path: Path) -> None:
    folder = copied(name, tmp_path / "changed")
    path = next(folder.rglob("config.json"))
    config = json.loads(path.read_text())
    change(config["quantization_config"])
    path.write_text(json.dumps(config))
    assert not validate(folder).ok


NVFP4_INPUTS = {
    "num_bits": 4,
    "type": "float",
    "symmetric": True,
    "dynamic": "local",
    "group_size": 16,
    "strategy": "tensor_group",
    "scale_dtype": "torch.float8_e4m3fn",
}


def safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
BROKEN = {
    "empty": b"",
    "cut in the length": b"\x08\0\0",
    "header longer than the file": struct.pack("<Q", 1000) + b"{}",
    "oversized header": struct.pack("<Q", 1 << 60) + b"{}",
    "no JSON": safetensors(b"{"),
    "deep JSON": safetensors(b"[" * 100_000),
    "a list": safetensors([]),
    "cut body": safetensors({"a": ENTRY}, b"abc"),
    "bytes left over": safetensors({"a": ENTRY}, b"abcde"),
    "overlap": safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [2, 6]}}, b"abcdef"),
    "hole": safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [6, 10]}}, b"abcdefghij"),
    "backwards": safetensors({"a": {**ENTRY, "data_offsets": [4, 0]}}, b"abcd"),
    "negative": safetensors({"a": {**ENTRY, "data_offsets": [-4, 0]}}, b"abcd"),
    "unknown dtype": safetensors({"a": {**ENTRY, "dtype": "Q7"}}, b"abcd"),
    "dtype of another size": safetensors({"a": {**ENTRY, "dtype": "F32"}}, b"abcd"),
    "huge shape": safetensors({"a": {**ENTRY, "shape": [1 << 61, 1 << 61]}}, b"abcd"),
    "float shape": safetensors({"a": {**ENTRY, "shape": [4.0]}}, b"abcd"),
    "key twice": safetensors(
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', b"abcd"
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_an_error_within_a_second(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[what])
    before = path.stat().st_mtime_ns
    started = time.process_time()
    with pytest.raises(MxsimError):
        SafetensorsFile(path)
    assert time.process_time() - started < 1
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "shard", ["../outside.safetensors", "/etc/passwd", "absent.safetensors", "a/b.safetensors", 7, "..", ".safetensors"]
)
def test_an_index_stays_in_its_folder(shard: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "quark"}}')
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    (tmp_path.parent / "outside.safetensors").write_bytes(safetensors({"a": ENTRY}, b"abcd"))
    with pytest.raises(MxsimError):
        open_checkpoint(tmp_path)


def test_a_hundred_thousand_tensors_are_read_at_once(tmp_path: Path) -> None:
    header = {f"model.layers.{n}.weight": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(100_000)}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(header, bytes(100_000)))
    started = time.process_time()
    assert len(SafetensorsFile(path).tensors) == 100_000
    assert time.process_time() - started < 1.5
