"""Folders that results go to."""

from __future__ import annotations

from pathlib import Path

from dmx.errors import DmxError


def made_folder(path: Path) -> Path:
    """The folder, made where it is not there. Raises: DmxError where it cannot be, before anything is computed for it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DmxError(f"results cannot go to {str(path)!r}: {error.strerror or error}; pass a folder, new or not") from error
    return path
