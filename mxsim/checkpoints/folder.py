"""The files of a checkpoint: its JSON, and its tensors in one file or in shards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mxsim.checkpoints.safetensors_file import SafetensorsFile, StoredTensor
from mxsim.errors import MxsimError
from mxsim.json_files import read_json, shortened

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
#: The names that a shard may have: no separators, nothing hidden, so that no index can point out of the folder.
SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFolder:
    """What lies in a checkpoint's folder, opened but not interpreted."""

    path: Path
    config: Mapping[str, Any]
    files: tuple[SafetensorsFile, ...]
    tensors: Mapping[str, StoredTensor]

    def json(self, name: str) -> Any:
        """The content of another JSON file of the folder; None where there is none."""
        path = self.path / name
        return read_json(path) if path.exists() else None

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of all files; that of the first where two disagree."""
        merged: dict[str, str] = {}
        for file in self.files:
            merged = {**file.metadata, **merged}
        return merged


def open_folder(path: str | Path) -> CheckpointFolder:
    """Open a checkpoint: a folder with config.json and model.safetensors, with an index and shards, or with one safetensors file.

    Raises: MxsimError where something is absent, broken, or points out of the folder, and where a model.safetensors lies beside shards.
    """
    folder = _inner(Path(path))
    config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    if not isinstance(config, dict):
        raise MxsimError(f"{folder / CONFIG}: a JSON object is expected")
    if (folder / INDEX).exists():
        files, tensors = _shards(folder)
        return CheckpointFolder(path=folder, config=config, files=files, tensors=tensors)
    file = SafetensorsFile(_single(folder))
    return CheckpointFolder(path=folder, config=config, files=(file,), tensors=file.tensors)


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one in it where it holds nothing else: AutoRound makes one below the one it is given."""
    if not folder.is_dir():
        raise MxsimError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    held = list(islice(folder.iterdir(), 2))
    return held[0] if len(held) == 1 and held[0].is_dir() and not held[0].is_symlink() else folder


def _single(folder: Path) -> Path:
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        held = f"{len(found)} safetensors files and no {INDEX}" if found else "no safetensors file"
        raise MxsimError(f"{folder} holds {held}: {WEIGHTS}, or an index and its shards, are expected")
    return found[0]


def _shards(folder: Path) -> tuple[tuple[SafetensorsFile, ...], dict[str, StoredTensor]]:
    where = folder / INDEX
    index = read_json(where)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise MxsimError(f"{where} has no weight_map: it maps every tensor to its shard")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise MxsimError(f"{where}: tensor {shortened(name)!r} lies in {shortened(repr(shard))}: a file's plain name is expected")
    if (folder / WEIGHTS).exists() and set(weight_map.values()) != {WEIGHTS}:
        raise MxsimError(
            f"{folder} holds {WEIGHTS} beside the shards of {INDEX}: transformers loads {WEIGHTS}, not the shards; "
            f"remove {WEIGHTS}, or else {INDEX} and its shards"
        )
    files = {shard: SafetensorsFile(folder / shard) for shard in sorted(set(weight_map.values()))}
    tensors: dict[str, StoredTensor] = {}
    for name, shard in weight_map.items():
        stored = files[shard].tensors.get(name)
        if stored is None:
            raise MxsimError(f"{where}: tensor {shortened(name)!r} is not in {shard}")
        tensors[name] = stored
    for shard, file in files.items():
        unlisted = next((name for name in file.tensors if weight_map.get(name) != shard), None)
        if unlisted is not None:
            raise MxsimError(f"{folder / shard}: tensor {shortened(unlisted)!r} is not listed there by {INDEX}")
    return tuple(files.values()), tensors
