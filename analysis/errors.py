"""The package's one exception type."""

from __future__ import annotations


class AnalysisError(ValueError):
    """Bad input. The message says what is wrong, what was given, what is allowed, and the remedy."""


class NothingToDrawError(AnalysisError):
    """The folder could be read, but no run in it finished: nothing can be drawn."""
