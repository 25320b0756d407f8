"""An assignment as plain text."""

from __future__ import annotations

from typing import Any

from dmx.search_config import PRESET_NOTES
from mxsim.assignment import Assignment
from mxsim.cli.table import table

_UNITS = {"bits": "bits, plain mean", "bits_with_scales": "bits with scales", "bytes": "bytes stored", "energy_pj": "energy, pJ"}
_UNITS |= {"latency_s": "latency, s"}


def assignment_table(assignment: Assignment) -> str:
    """Each layer's formats, the skipped ones, and what was achieved of the budget."""
    layers = [[name, pair.weight, pair.activation] for name, pair in assignment.layers.items()]
    layers += [[name, "left wide", "left wide"] for name in assignment.skipped]
    spent = [[_UNITS[name], f"{value:.6g}"] for name, value in assignment.achieved.items() if value is not None]
    spent += [[f"left of {name}", f"{100 * share:.3f} %"] for name, share in _left(assignment).items()]
    note = PRESET_NOTES.get(str(assignment.search.get("preset")))
    told = f"\n\n{note}" if note else ""
    return f"{table(['layer', 'weight', 'input'], layers)}\n\n{table(None, spent, right=(1,))}{told}"


def _left(assignment: Assignment) -> dict[str, Any]:
    left = assignment.search.get("left_of_budget")
    return dict(left) if isinstance(left, dict) else {}
