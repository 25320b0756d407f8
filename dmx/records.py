"""A run: what identifies it, where its inputs lie, and the record that comes of it. JSON, one file a run, no torch needed to read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dmx
import mxsim
from dmx.errors import DmxError
from mxsim.files import renamed_when_whole
from mxsim.json_files import finite

SCHEMA = 1
DONE, FAILED = "done", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One (model, method, formats, budget, device, seed), resolved: a pure function of what it holds."""

    specification: Mapping[str, Any]  #: what the record is identified by: hashes of inputs, never their places
    places: Mapping[str, str | None]  #: where the model and the texts lie on this machine

    @property
    def key(self) -> str:
        """SHA-256 of the specification."""
        return hashlib.sha256(json.dumps(self.specification, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """A few words for progress and errors."""
        budget = self.specification["budget"]
        what = budget["text"] if budget else "/".join(self.specification["formats"])
        return f"{self.specification['method']} {what} seed {self.specification['seed']}".strip()

    def to_json(self) -> dict[str, Any]:
        return {"specification": dict(self.specification), "places": dict(self.places)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        return cls(specification=content["specification"], places=content["places"])


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """SHA-256 over the source of both packages: results of other code are other results."""
    digest = hashlib.sha256()
    for package in (mxsim, dmx):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            if "cli" not in path.relative_to(root).parts:
                digest.update(f"{root.name}/{path.relative_to(root)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def record_path(folder: Path, key: str) -> Path:
    return folder / "records" / f"{key}.json"


def write_record(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write a record whole or not at all: under a name of its own, then renamed. Numbers that are not finite become null."""
    path = record_path(folder, record["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with renamed_when_whole(path) as part:
        part.write_text(json.dumps(finite(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_record(path: Path) -> dict[str, Any]:
    """A record. Raises: DmxError where it cannot be read or is of another schema."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DmxError(f"record {path.name} cannot be read: {error}; delete it, and the sweep makes it again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DmxError(f"record {path.name} is not of schema {SCHEMA}: delete it, and the sweep makes it again")
    return content


def is_done(folder: Path, key: str) -> bool:
    """Whether a finished record lies there; a failed or broken one is run again."""
    path = record_path(folder, key)
    if not path.is_file():
        return False
    try:
        return bool(read_record(path)["status"] == DONE)
    except DmxError:
        return False
