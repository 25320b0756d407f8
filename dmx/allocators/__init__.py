"""The published ways to choose formats, one file a method: what the search is measured against."""

from __future__ import annotations

from dmx.allocators.allocation import METHODS, SETTINGS, allocate

__all__ = ["METHODS", "SETTINGS", "allocate"]
