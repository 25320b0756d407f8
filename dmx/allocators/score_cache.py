"""Scores kept by what they were computed from, so that one measurement serves every budget."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dmx.errors import DmxError
from dmx.files import made_folder
from mxsim.files import renamed_when_whole

#: Raised when the arithmetic of any score changes: older files are then no longer found.
SCORES_VERSION = 1


Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreCache:
    """A folder of JSON files named by the hash of what determines the scores in them; None keeps nothing."""

    folder: Path | None = None

    def get(
        self, key: Mapping[str, Any], shape: tuple[int, ...], compute: Callable[[], npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """The scores of a key, computed where no file has them.

        Args: key: everything they depend on, JSON.  shape: theirs.  Returns: float64, to the last bit what compute returned.
        Raises: DmxError for a file that is damaged, or a folder that cannot be written, before anything is computed.
        """
        if self.folder is None:
            return compute()
        full = {"version": SCORES_VERSION, **key}
        path = self.folder / f"scores-{hashlib.sha256(_canonical(full).encode()).hexdigest()}.json"
        if path.is_file():
            return _read(path, full, shape)
        made_folder(self.folder, "scores", "pass another folder (--cache), nothing was measured")
        scores = compute()
        with renamed_when_whole(path) as part:
            part.write_text(json.dumps({"key": full, "scores": scores.tolist()}), encoding="utf-8")
        return scores


def user_folder() -> Path:
    """The user's own, which every call shares: mxsim/scores in $XDG_CACHE_HOME, or in ~/.cache. Source: XDG Base Directory 0.8."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "mxsim" / "scores"
    try:
        return Path.home() / ".cache" / "mxsim" / "scores"
    except RuntimeError:
        raise DmxError("there is no home folder to keep scores in: pass --cache FOLDER, or set XDG_CACHE_HOME to a full path") from None


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _read(path: Path, key: Mapping[str, Any], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scores = np.array(content["scores"], np.float64)
        is_sound = _canonical(content["key"]) == _canonical(key) and scores.shape == shape
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DmxError(f"cached scores {path.name} cannot be read: {error}; delete the file to compute them again") from error
    if not is_sound:
        raise DmxError(f"cached scores {path.name} are of another measurement than their name says: delete the file")
    return scores
