"""Runs the checks of the matrix units and writes reports/units.md.

    MXSIM_SHARED_DATA=... python -m reports.make_units      minutes; without the variable the captures are left out, and it says so

Exits 1 when anything differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import mxsim
from tests.mxsim.units import evidence

REPORT = Path(__file__).with_name("units.md")
LIVE = Path(__file__).with_name("units_live.json")
#: (GPU, format, output), and what is changed by one
CHANGES: tuple[tuple[tuple[str, str, str], dict[str, Any]], ...] = tuple(
    (configuration, change)
    for configuration, changes in (
        (("V100", "fp16", "fp32"), ({"F": 22}, {"F": 24}, {"chunk": 2}, {"step": "rne_fp32"}, {"step": "rz_e8m22"}, {"align": "floor"})),
        (("A100", "bf16", "fp32"), ({"F": 23}, {"F": 25}, {"chunk": 4}, {"step": "rne_fp32"}, {"align": "nearest"})),
        (
            ("H100", "E4M3", "fp32"),
            ({"F": 12}, {"F": 14}, {"chunk": 16}, {"step": "rz_e8m12"}, {"step": "rne_e8m13"}),
        ),
        (("H100", "fp16", "fp16"), ({"F": 24}, {"F": 26}, {"step": "rz_fp16"}, {"e_zero": 0})),
        (("B200", "E4M3", "fp16"), ({"F": 20}, {"exponents": "own"}, {"order": "ascending"}, {"late": "rz_fp16"}, {"step": "rz_fp32"})),
    )
    for change in changes
)


def changed_unit(configuration: tuple[str, str, str], change: dict[str, Any]) -> Any:
    gpu, format, out = configuration
    unit = mxsim.UNITS[evidence.unit_of(gpu, format, out)]
    path = unit.path_for(format.lower(), format.lower(), out)
    return replace(unit, paths=(replace(path, **change),))


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def sections() -> Iterator[tuple[str, str, int]]:
    """(title, text, outputs that differ)."""
    if evidence.HARDWARE is None:
        yield "Captures of hardware", "Not run: MXSIM_SHARED_DATA is not set.", 0
    else:
        rows, bad = [], 0
        for gpu, format, out in evidence.CONFIGURATIONS:
            wrong, total = evidence.hardware_mismatches(gpu, format, out)
            bad += wrong
            rows.append([gpu, format, out, evidence.unit_of(gpu, format, out), f"{wrong} of {total}"])
        yield "Captures of hardware", table(["GPU", "operands", "output", "unit", "differ"], rows), bad
        rows = []
        for configuration, change in CHANGES:
            wrong, total = evidence.hardware_mismatches(*configuration, changed_unit(configuration, change))
            rows.append([" ".join(configuration), ", ".join(f"{k} = {v}" for k, v in change.items()), f"{wrong} of {total}"])
        yield "One parameter changed: how many captures break", table(["capture", "changed", "break"], rows), 0
    rows, bad = [], 0
    with np.load(evidence.GOLDEN) as golden:
        counts: dict[str, list[int]] = {}
        for key in evidence.golden_keys():
            wrong, total = evidence.golden_mismatches(key, golden)
            entry = counts.setdefault(key.split("/")[0], [0, 0])
            entry[0] += wrong
            entry[1] += total
            bad += wrong
    rows = [[unit, f"{wrong} of {total}"] for unit, (wrong, total) in counts.items()]
    yield "mmasim 2.1.1, golden answers on 134 paths", table(["unit", "differ"], rows), bad
    live = json.loads(LIVE.read_text()) if LIVE.exists() else {"paths": {}}
    differing = sum(p["differing"] for p in live["paths"].values())
    outputs = sum(p["outputs"] for p in live["paths"].values())
    text = f"{len(live['paths'])} of 134 paths run, {outputs:,} outputs, {differing} differ. Made by `python -m reports.make_units_live`."
    missing = 134 - len(live["paths"])
    if missing:
        text += f" The other {missing} have not been run live; the golden answers above cover them."
    yield "mmasim 2.1.1, live", text, differing
    rows, bad = [], 0
    for unit in mxsim.UNITS:
        results = [evidence.oracle_mismatches(*pair, seed=2) for pair in evidence.preset_pairs() if pair[0] == unit]
        wrong, total = (sum(r[n] for r in results) for n in (0, 1))
        bad += wrong
        rows.append([unit, f"{len(results)}", f"{wrong} of {total}"])
    yield "The exact oracle, random bits, K = 70, every pair of formats", table(["unit", "pairs and outputs", "differ"], rows), bad


def main() -> int:
    parts = [
        "# Matrix units: what each was held against",
        "Made by `python -m reports.make_units`. Levels: `mxsim units NAME`.",
    ]
    bad = 0
    for title, text, wrong in sections():
        parts += [f"## {title}", text]
        bad += wrong
    REPORT.write_text("\n\n".join(parts) + "\n")
    print(f"{REPORT}: {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
