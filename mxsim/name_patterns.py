"""Names as users give them: themselves, or patterns as in a shell."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern is this very name, brackets and all, or matches it."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
