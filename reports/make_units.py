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
Change = dict[str, Any]
#: (GPU, format, output), and what is changed, by one where it is a number
CHANGES: tuple[tuple[tuple[str, str, str], Change], ...] = tuple(
    (configuration, change)
    for configuration, changes in (
        (("V100", "fp16", "fp32"), ({"F": 22}, {"F": 24}, {"chunk": 2}, {"step": "rne_fp32"}, {"step": "rz_e8m22"}, {"align": "floor"})),
        (
            ("A100", "bf16", "fp32"),
            ({"F": 23}, {"F": 25}, {"chunk": 4}, {"step": "rne_fp32"}, {"align": "nearest"}, {"e_zero": -131}, {"zero": "signed"}),
        ),
        (("Ada", "E5M2", "fp16"), ({"F": 12}, {"F": 14}, {"chunk": 8}, {"step": "rz_fp16"})),
        (("H100", "E4M3", "fp32"), ({"F": 12}, {"F": 14}, {"chunk": 16}, {"step": "rz_e8m12"}, {"step": "rne_e8m13"})),
        (("H100", "fp16", "fp32"), ({"F": 24}, {"F": 26}, {"chunk": 8}, {"denormals": "flush"})),
        (("H100", "fp16", "fp16"), ({"F": 24}, {"F": 26}, {"step": "rz_fp16"}, {"e_zero": -20})),
        (("B200", "E4M3", "fp32"), ({"F": 24}, {"exponents": "own"}, {"order": "ascending"}, {"late": "rz_fp32"})),
        (("B200", "E5M2", "fp32"), ({"F": 24}, {"F": 26}, {"order": "ascending"}, {"late": "rz_fp32"}, {"instruction": 16})),
        (("B200", "E4M3", "fp16"), ({"F": 24}, {"order": "ascending"}, {"late": "rz_fp16"}, {"step": "rz_fp32"})),
        (("B200", "tf32", "fp32"), ({"F": 24}, {"F": 26}, {"chunk": 4}, {"step": "rne_fp32"})),
    )
    for change in changes
)
#: why a change goes unseen, said beside the 0: by the captures, or else by what is changed
UNSEEN = {
    "B200 E4M3 fp32": "nothing is cut: a capture's products span 20 bits at most; F and the order are the published model's",
    "B200 E5M2 fp32": "nothing is cut: all but one capture's products span 24 bits at most; F and the order are the published model's",
    "B200 E4M3 fp16": "nothing is cut: a capture's products span 20 bits at most; F is the published model's",
    "F": "an fp16 output keeps 11 bits: the last of F's shows only after a cancellation; the fp32 outputs show it",
    "chunk": "these captures are 4 products long: one chunk either way",
    "e_zero": "it counts only where all terms are below 2^e_zero, and then for bits far below the output's last",
    "zero": "an exact zero is +0 either way: only a negative sum that underflows could tell",
}


def changed_unit(configuration: tuple[str, str, str], change: Change) -> Any:
    gpu, format, out = configuration
    unit = mxsim.UNITS[evidence.unit_of(gpu, format, out)]
    path = unit.path_for(format.lower(), format.lower(), out)
    return replace(unit, paths=(replace(path, **change),))


def golden_breaks(configuration: tuple[str, str, str], unit: Any, golden: Any) -> str:
    """mmasim's golden answers of the same path that the changed unit misses."""
    _, format, out = configuration
    start = f"{unit.name}/{format.lower()}_{format.lower()}/{out}/"
    counts = [evidence.golden_mismatches(key, golden, unit) for key in evidence.golden_keys() if key.startswith(start)]
    return f"{sum(n for n, _ in counts)} of {sum(n for _, n in counts)}" if counts else "no such path"


def breaks() -> list[list[str]]:
    """Rows of the table of changes. A 0 among the captures stands beside its reason; one without a reason is a KeyError."""
    rows = []
    with np.load(evidence.GOLDEN) as golden:
        for configuration, change in CHANGES:
            unit = changed_unit(configuration, change)
            wrong, total = evidence.hardware_mismatches(*configuration, unit)
            captures = " ".join(configuration)
            why = "" if wrong else UNSEEN.get(captures) or UNSEEN[next(iter(change))]
            told = ", ".join(f"{k} = {v}" for k, v in change.items())
            rows.append([captures, told, f"{wrong} of {total}", golden_breaks(configuration, unit, golden), why])
    return rows


def live() -> tuple[str, int]:
    """What reports.make_units_live has found so far: (text, outputs that differ)."""
    done = json.loads(LIVE.read_text()) if LIVE.exists() else {"paths": {}}
    differing = sum(p["differing"] for p in done["paths"].values())
    outputs = sum(p["outputs"] for p in done["paths"].values())
    text = f"{len(done['paths'])} of 134 paths run, {outputs:,} outputs, {differing} differ. Made by `python -m reports.make_units_live`."
    missing = 134 - len(done["paths"])
    if missing:
        text += f" The other {missing} have not been run live; the golden answers above cover them."
    return text, differing


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
        head = ["capture", "changed", "captures that break", "of mmasim's answers", "why none"]
        yield "One parameter changed: what breaks", table(head, breaks()), 0
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
    yield "mmasim 2.1.1, live", *live()
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
