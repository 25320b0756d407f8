"""Folders that results go to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dmx.errors import DmxError


def made_folder(path: Path, what: str = "results", remedy: str = "pass a folder, new or not, that can be written to") -> Path:
    """The folder, made where it is not there. Raises: DmxError where nothing can be written to it, before anything is computed for it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise DmxError(f"{what} cannot go to {str(path)!r}: {reason}; {remedy}") from error
    return path
