"""Random damage to configs, headers, indexes and manifests: an error or a report within a second, no crash, and not a byte written."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import mxsim
from mxsim.checkpoints.reader import open_checkpoint
from mxsim.errors import MxsimError
from mxsim.manifest import MANIFEST, Manifest, file_hash, tensor_records
from mxsim.validation import validate
from tests.mxsim.test_made_checkpoints import auto_round, gpt_oss, quark_legacy

SEEDS = 60  #: of each case; there are five configs, and headers, an index and a manifest beside them

#: What a value is replaced by.
ODD: list[Any] = [
    None, True, False, 0, -1, 4, 31, 2**63, -(2**70), 1e308, 0.5, "", "mx", "re:(", "re:(a+)+$", "re:" + "a*" * 50, "\ud800", "\0", "../..",
    "x" * 5000, [], [[]], [None], {}, {"": {}}, {"a": {"a": {"a": []}}}, ["re:.*"], ["Linear"], [1, "a"],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    found = [path]
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(inner, (*path, key))
    return found


def damaged(content: Any, rng: np.random.Generator) -> Any:
    """One to three values replaced, removed, doubled under another key, or exchanged."""
    content = copy.deepcopy(content)
    for _ in range(int(rng.integers(1, 4))):
        paths = [path for path in places(content) if path]
        if not paths:
            break
        path = paths[int(rng.integers(len(paths)))]
        inside = content
        for key in path[:-1]:
            inside = inside[key]
        odd = copy.deepcopy(ODD[int(rng.integers(len(ODD)))])
        match int(rng.integers(4)):
            case 0 | 1:
                inside[path[-1]] = odd
            case 2:
                del inside[path[-1]]
            case _ if isinstance(inside, dict):
                inside[f"{path[-1]}{rng.integers(10)}"] = inside[path[-1]]
            case _:
                inside.append(odd)
    return content


def garbled(text: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes overwritten, cut out or put in."""
    data = bytearray(text)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) + 1))
        match int(rng.integers(3)):
            case 0:
                data[at : at + 1] = rng.bytes(1)
            case 1:
                del data[at : at + int(rng.integers(1, 20))]
            case _:
                data[at:at] = rng.choice([b"{", b"}", b"[", b'"', b",", b"\\u0000", b"1e999", b"NaN", b"\xff", b":"])
    return bytes(data)


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file with its time of change and its content's hash."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def survives(folder: Path, reference: Path | None, seed: int) -> None:
    """A report or a clear error, within a second of processor time, and nothing written."""
    before = state(folder.parent)
    started = time.process_time()
    try:
        validate(folder, reference).as_json()
        said = ""
    except MxsimError as error:
        said = str(error)
    assert not said or 10 < len(said) < 3000, seed
    assert time.process_time() - started < 1, seed
    assert state(folder.parent) == before, seed


def compressed_tensors(path: Path) -> tuple[Path, Path]:
    return auto_round(path, "mxfp4_e2m1")


def quark(path: Path) -> tuple[Path, Path]:
    return quark_legacy(path, "fp6_e3m2", "mxfp6_e3m2")[:2]


def experts(path: Path) -> tuple[Path, Path]:
    return gpt_oss(path, "ocp")[:2]


def modelopt(path: Path) -> tuple[Path, Path]:
    """MXFP4 with hf_quant_config.json beside the config."""
    export, original = compressed_tensors(path)
    q = mxsim.quantize(np.ones((32, 64), np.float32), "mxfp4_e2m1", policy="modelopt")
    elements, scales = q.packed()
    name = "model.layers.0.mlp.up_proj"
    save_file({f"{name}.weight": elements, f"{name}.weight_scale": scales}, export / "model.safetensors")
    quantization = {"quant_algo": "mxfp4", "group_size": 32, "exclude_modules": ["lm_head"], "kv_cache_quant_algo": None}
    config = {
        "quant_method": "modelopt",
        "quant_algo": "mxfp4",
        "ignore": ["lm_head"],
        "producer": {"name": "modelopt", "version": "0.47.0"},
    }
    (export / "config.json").write_text(json.dumps({"quantization_config": config}))
    (export / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization, "producer": config["producer"]}))
    return export, original


def own(path: Path) -> tuple[Path, Path]:
    """mxsim's layout, with a manifest."""
    export, original = compressed_tensors(path)
    name = "model.layers.0.mlp.up_proj"
    q = mxsim.quantize(np.ones((24, 64), np.float32), "mxfp6_e2m3")
    elements, scales = q.packed()
    save_file({f"{name}.weight_codes": elements, f"{name}.weight_scales": scales}, export / "model.safetensors")
    layer = {"weight": "mxfp6_e2m3", "activation": "bf16", "shape": [24, 64]}
    config = {"quant_method": "mxsim", "layout": 1, "version": "1", "policy": "ocp", "layers": {name: layer}}
    (export / "config.json").write_text(json.dumps({"quantization_config": config}))
    manifest = Manifest(
        producer="test", target="mxsim", policy="ocp", unit=None, golden=None, versions={},
        layers={name: {"weight": "mxfp6_e2m3", "activation": "bf16"}}, tensors=dict(tensor_records(open_checkpoint(export))),
        files={file.name: file_hash(file) for file in export.iterdir()},
    )  # fmt: skip
    (export / MANIFEST).write_bytes(manifest.to_bytes())
    return export, original


Made = Callable[[Path], tuple[Path, Path]]
MADE: dict[str, Made] = {f.__name__: f for f in (compressed_tensors, quark, experts, modelopt, own)}


@pytest.fixture(autouse=True, scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kernels are compiled before anything is timed."""
    for make in MADE.values():
        export, original = make(tmp_path_factory.mktemp("compiled"))
        validate(export, original)


@pytest.mark.parametrize("name", MADE)
def test_damaged_values_in_configs(name: str, tmp_path: Path) -> None:
    export, original = MADE[name](tmp_path)
    files = [path for path in sorted(export.glob("*.json")) if path.name != MANIFEST]
    contents = {path: json.loads(path.read_text()) for path in files}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        for path, content in contents.items():
            path.write_text(json.dumps(damaged(content, rng)))
        survives(export, original if seed % 2 else None, seed)


@pytest.mark.parametrize("name", MADE)
def test_garbled_bytes_of_configs(name: str, tmp_path: Path) -> None:
    export, original = MADE[name](tmp_path)
    path = export / "config.json"
    clean = path.read_bytes()
    for seed in range(SEEDS):
        path.write_bytes(garbled(clean, np.random.default_rng(seed)))
        survives(export, original if seed % 2 else None, seed)


@pytest.mark.parametrize("garble", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_damaged_headers(name: str, garble: bool, tmp_path: Path) -> None:
    """The header of the export, and on odd seeds that of the reference."""
    folders = MADE[name](tmp_path)
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        path = folders[seed % 2] / "model.safetensors"
        clean = path.read_bytes()
        (length,) = struct.unpack("<Q", clean[:8])
        text = clean[8 : 8 + length]
        changed = garbled(text, rng) if garble else json.dumps(damaged(json.loads(text), rng)).encode()
        claimed = len(changed) if seed % 5 else int(rng.integers(1 << 62))
        path.write_bytes(struct.pack("<Q", claimed) + changed + clean[8 + length :])
        survives(folders[0], folders[1], seed)
        path.write_bytes(clean)


def test_damaged_indexes(tmp_path: Path) -> None:
    export, original = MADE["quark"](tmp_path)
    names = open_checkpoint(export).tensors
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        text = json.dumps(damaged(index, rng)).encode()
        (export / "model.safetensors.index.json").write_bytes(garbled(text, rng) if seed % 3 == 0 else text)
        survives(export, original, seed)


@pytest.mark.parametrize("signed", [False, True])
def test_damaged_manifests(signed: bool, tmp_path: Path) -> None:
    """signed: with a digest that holds, so that what follows it is read."""
    export, _ = MADE["own"](tmp_path)
    clean = json.loads((export / MANIFEST).read_text())
    for seed in range(2 * SEEDS):
        content = damaged(clean, np.random.default_rng(seed))
        if signed and isinstance(content, dict):
            canonical = json.dumps(content | {"digest": ""}, sort_keys=True, indent=1).encode() + b"\n"
            content["digest"] = hashlib.sha256(canonical).hexdigest()
        (export / MANIFEST).write_bytes(json.dumps(content, sort_keys=True, indent=1).encode() + b"\n")
        survives(export, None, seed)
        if json.dumps(content, sort_keys=True) != json.dumps(clean, sort_keys=True) and not signed:
            assert not validate(export).ok, seed
