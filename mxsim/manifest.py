"""The manifest beside an export: what was written by whom, and the SHA-256 of everything, so that no bit can change unseen.

manifest.json is canonical JSON (sorted keys, one space of indentation): a file that says the same in other bytes is not the one written.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.layout import Finding, QuantizedTensor, Severity
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.errors import MxsimError
from mxsim.json_files import MOST_JSON, checked_size, parsed_json
from mxsim.kernels.threads import one_thread

MANIFEST = "manifest.json"
SCHEMA = 1
HASHED_AT_ONCE = 3  #: tensors
PIECE = 1 << 22  #: elements or bytes hashed at a time
_KEYS = ("schema", "digest", "producer", "target", "policy", "unit", "golden", "versions", "layers", "tensors", "files")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """One tensor of a checkpoint: a weight with all its parts, or a tensor left in float."""

    format: str  #: a block format, or the dtype in the file
    shape: tuple[int, ...]
    bytes: str  #: SHA-256 of the bytes in the file; a weight's element bytes, scale bytes and tensor scale one after the other
    values: str  #: SHA-256 of the float32 values that they stand for, little-endian, in C order

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an export consists of."""

    producer: str  #: the program that wrote it, with its version
    target: str  #: whose layout it has
    policy: str
    unit: str | None  #: the unit that golden outputs come from
    golden: str | None  #: the file that holds them
    versions: Mapping[str, str]
    layers: Mapping[str, Mapping[str, str]]  #: module -> {"weight", "activation"}
    tensors: Mapping[str, TensorRecord]
    files: Mapping[str, str]  #: file -> SHA-256; every file but the manifest itself

    def to_bytes(self) -> bytes:
        """The file's content. Its digest is the SHA-256 of the same content with an empty one."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "digest": "",
            "producer": self.producer,
            "target": self.target,
            "policy": self.policy,
            "unit": self.unit,
            "golden": self.golden,
            "versions": dict(self.versions),
            "layers": {name: dict(pair) for name, pair in self.layers.items()},
            "tensors": {name: record.as_json() for name, record in self.tensors.items()},
            "files": dict(self.files),
        }
        content["digest"] = hashlib.sha256(_canonical(content)).hexdigest()
        return _canonical(content)

    @classmethod
    def from_bytes(cls, text: bytes, where: str) -> Manifest:
        """Raises: MxsimError where the content is no manifest, or not as it was written."""
        content = parsed_json(text, where)
        if not isinstance(content, dict) or set(content) != set(_KEYS) or content["schema"] != SCHEMA:
            raise MxsimError(f"{where} is no manifest of schema {SCHEMA}: its keys must be {', '.join(_KEYS)}")
        blank = hashlib.sha256(_canonical(content | {"digest": ""})).hexdigest()
        if content["digest"] != blank or _canonical(content) != text:
            raise MxsimError(f"{where} is not as it was written: its own digest does not hold")
        _check_kinds(content, where)
        return cls(
            **{key: content[key] for key in _KEYS if key not in ("schema", "digest", "tensors")},
            tensors={name: TensorRecord(**{**entry, "shape": tuple(entry["shape"])}) for name, entry in content["tensors"].items()},
        )


def _check_kinds(content: Mapping[str, Any], where: str) -> None:
    """A digest can be made anew over anything: what stands under the keys is checked too."""

    def texts(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())

    def record(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and set(value) == set(TensorRecord.__slots__)
            and all(isinstance(value[key], str) for key in ("format", "bytes", "values"))
            and isinstance(value["shape"], list)
            and all(type(n) is int for n in value["shape"])
        )

    right = {
        **{key: isinstance(content[key], str) for key in ("producer", "target", "policy")},
        **{key: content[key] is None or isinstance(content[key], str) for key in ("unit", "golden")},
        **{key: texts(content[key]) for key in ("versions", "files")},
        "layers": isinstance(content["layers"], dict) and all(texts(pair) for pair in content["layers"].values()),
        "tensors": isinstance(content["tensors"], dict) and all(record(entry) for entry in content["tensors"].values()),
    }
    for key, holds in right.items():
        if not holds:
            raise MxsimError(f"{where}: {key} is not of the kind that a manifest has: docs/checkpoints.md says which")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    if checked_size(path) > MOST_JSON:
        raise MxsimError(f"{path} has {path.stat().st_size} bytes: at most {MOST_JSON} are read")
    return Manifest.from_bytes(path.read_bytes(), str(path))


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weight_record(weight: QuantizedTensor) -> Callable[[], TensorRecord]:
    """Hash a quantised weight from the bytes in its file. Returns: what waits for the last piece and gives the record."""
    step = max(PIECE // weight.columns, 1)
    stored, values = _Hasher(), _Hasher()
    for part in (weight.elements, weight.scales, weight.tensor_scale):
        if part is not None:
            _hash_bytes(part, stored)
    for start in range(0, weight.rows, step):
        values.update(weight.tensor(slice(start, start + step)).dequantize().astype("<f4", copy=False))
        weight.elements.release()
    weight.scales.release()
    return lambda: TensorRecord(format=weight.format, shape=weight.shape, bytes=stored.hexdigest(), values=values.hexdigest())


def _plain_record(tensor: StoredTensor) -> Callable[[], TensorRecord]:
    """Hash a tensor left in float; one that is no float has its bytes' hash for its values'. Returns: as _weight_record."""
    stored, values = _Hasher(), _Hasher()
    _hash_bytes(tensor, stored)
    if not tensor.is_float:
        values = stored
    else:
        flat = tensor.array().reshape(-1)
        for start in range(0, flat.size, PIECE):
            values.update(flat[start : start + PIECE].astype("<f4"))
            tensor.release()
    return lambda: TensorRecord(format=tensor.dtype, shape=tensor.shape, bytes=stored.hexdigest(), values=values.hexdigest())


class _Hasher:
    """SHA-256 in a thread of its own, a few pieces behind, so that memory stays bounded. hashlib lets go of the interpreter's lock."""

    MOST = 3  #: pieces that wait

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[None]] = deque()

    def update(self, part: npt.NDArray[Any]) -> None:
        """Take the bytes of an array in C order; it must not change any more."""
        if len(self._waiting) == self.MOST:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._hash.update, np.ascontiguousarray(part).reshape(-1).view(np.uint8).data))

    def hexdigest(self) -> str:
        self._thread.shutdown()
        for piece in self._waiting:
            piece.result()
        return self._hash.hexdigest()


def tensor_records(checkpoint: Checkpoint) -> Iterator[tuple[str, TensorRecord]]:
    """Every tensor left in float under its name, every weight under its float name; the next are read while the last are hashed."""
    begun = chain(
        ((tensor.name, _plain_record(tensor)) for tensor in checkpoint.plain()),
        ((weight.weight, _weight_record(weight)) for weight in checkpoint.quantized),
    )
    waiting: deque[tuple[str, Callable[[], TensorRecord]]] = deque()
    with one_thread():
        for entry in begun:
            waiting.append(entry)
            if len(waiting) > HASHED_AT_ONCE:
                name, record = waiting.popleft()
                yield name, record()
    for name, record in waiting:
        yield name, record()


def check_files(folder: Path, manifest: Manifest) -> list[Finding]:
    """Every file against its hash; files that are missing, and files that nobody wrote down: tensors among them are a mismatch."""
    findings = []
    for name, wanted in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            findings.append(Finding(severity=Severity.MISMATCH, where=name, says="points out of the folder"))
        elif not path.is_file():
            findings.append(Finding(severity=Severity.MISMATCH, where=name, says="is missing, but the manifest lists it"))
        elif (found := file_hash(path)) != wanted:
            says = f"is not as it was written: SHA-256 {found[:16]}... instead of {wanted[:16]}..."
            findings.append(Finding(severity=Severity.MISMATCH, where=name, says=says))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST and name not in manifest.files:
            if name.endswith(".safetensors"):
                says = "is not listed in the manifest, and runtimes may load it: remove it"
                findings.append(Finding(severity=Severity.MISMATCH, where=name, says=says))
            else:
                findings.append(Finding(severity=Severity.NOTE, where=name, says="is not listed in the manifest"))
    return findings


def _hash_bytes(tensor: StoredTensor, into: _Hasher) -> None:
    raw = tensor.raw()
    for start in range(0, raw.size, 4 * PIECE):
        into.update(raw[start : start + 4 * PIECE])
        tensor.release()


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1).encode() + b"\n"
