"""JSON of files that others made: so much and no more of it, no key twice, no NaN or Infinity; and content made fit for JSON."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from mxsim.errors import MxsimError

#: Bytes of JSON that are parsed: 100,000 tensors need 14 MB, and Python parses this much within a second.
MOST_JSON = 16 << 20


def checked_size(path: Path) -> int:
    """The size of a file in bytes; MxsimError where there is none. A device or a pipe, which may never end, is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise MxsimError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise MxsimError(f"{path} is not a file")
    return status.st_size


def read_json(path: Path) -> Any:
    """A JSON file's content, keys checked for being named twice."""
    size = checked_size(path)
    if size > MOST_JSON:
        raise MxsimError(f"{path} has {size} bytes: at most {MOST_JSON} of JSON are read")
    try:
        return parsed_json(path.read_bytes(), str(path))
    except OSError as error:
        raise MxsimError(f"{path} cannot be read: {error.strerror or error}") from None


def parsed_json(text: bytes, where: str) -> Any:
    """JSON in UTF-8; no key twice, no NaN or Infinity, which are no JSON."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise MxsimError(f"{where}: key {shortened(twice)!r} stands there twice")
        return found

    def refused(constant: str) -> Any:
        raise MxsimError(f"{where}: {constant} is no JSON")

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refused)
    except MxsimError:
        raise
    except (ValueError, RecursionError) as error:
        raise MxsimError(f"{where} is not JSON: {shortened(str(error), 200)}") from None


def finite(content: Any) -> Any:
    """The same with null for NaN and the infinities, which JSON does not have."""
    if isinstance(content, dict):
        return {name: finite(part) for name, part in content.items()}
    if isinstance(content, list | tuple):
        return [finite(part) for part in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def shortened(text: str, most: int = 120) -> str:
    """Text from a file, cut so that a message stays a message."""
    return text if len(text) <= most else text[: most - 3] + "..."
