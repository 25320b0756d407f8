"""The package's one exception type."""

from __future__ import annotations


class DmxError(ValueError):
    """Bad input. The message says what is wrong, what was given, what is allowed, and the remedy."""
