"""An assignment as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmx.search_config import PRESET_NOTES
from mxsim.assignment import Assignment
from mxsim.cli.table import table

#: what was achieved -> its row
_ACHIEVED = {
    "bits": "bits, scales out, plain mean",
    "bits_with_scales": "bits, scales in, plain mean",
    "bytes": "bytes stored",
    "energy_pj": "energy, pJ",
    "latency_s": "latency, s",
}
#: kind of a budget -> the unit of its amount, where its name does not say it
_UNITS = {"dram": ", bytes", "energy": ", pJ", "latency": ", s"}
#: what a search measured on its text, in the order of its stages
_LOSSES = {
    "loss_before_hardening": "loss before hardening",
    "loss_after_hardening": "loss after hardening",
    "loss_after_repair": "loss after repair",
    "loss_after_refinement": "loss after refinement",
}


def assignment_table(assignment: Assignment) -> str:
    """Each layer's formats, the skipped ones, what was spent of each budget as it counts, and how the search's loss went."""
    told = assignment.search
    layers = [[name, pair.weight, pair.activation] for name, pair in assignment.layers.items()]
    layers += [[name, "left wide", "left wide"] for name in assignment.skipped]
    numbers = [[_ACHIEVED[name], f"{value:.6g}"] for name, value in assignment.achieved.items() if value is not None]
    for budget in assignment.budget.get("all_of", [assignment.budget]):
        numbers += _spending(budget, told)
    numbers += [[f"{title}, nats a token", f"{told[name]:.6g}"] for name, title in _LOSSES.items() if name in told]
    parts = [table(["layer", "weight", "input"], layers), table(None, numbers, right=(1,))]
    if "left_because" in told:
        parts.append(f"left because {told['left_because']}")
    note = PRESET_NOTES.get(str(told.get("preset")))
    return "\n\n".join([*parts, note] if note else parts)


def _spending(budget: Mapping[str, Any], told: Mapping[str, Any]) -> list[list[str]]:
    """What was spent of a budget, in the unit and by the reading that it was given in, and what is left."""
    kind, name = budget.get("kind", ""), budget.get("name", budget.get("text", ""))
    mean = "weighted by size" if budget.get("bits_weighting") == "size" else "plain mean"
    is_told = name != budget.get("text", "")  # with the name, as others have the same text
    reading = f" (scales {budget.get('bits_scales', 'out')}, {mean})" if kind == "bits" and not is_told else ""
    unit, mark = ("", "x") if budget.get("is_share") else (_UNITS.get(kind, ""), "")
    spent, left = (told.get(part, {}).get(name) for part in ("spent_of_budget", "left_of_budget"))
    rows = [] if spent is None else [[f"spent of {name}{reading}{unit}", f"{spent:.6g}{mark}"]]
    return rows if left is None else [*rows, [f"left of {name}{reading}", f"{100 * left:z.3f} %"]]
