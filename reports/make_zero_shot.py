"""`python -m reports.make_zero_shot SWEEP --model MODEL --tasks FILE ... -o FILE`: zero-shot accuracy of a sweep's dMX assignments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

import dmx
from mxsim.assignment import Assignment
from reports.arguments import add_budgets, found_by_dmx
from reports.tables import write_table

UNIFORM = ("mxfp8_e4m3", "mxfp4_e2m1")


def cell(score: dict[str, Any]) -> str:
    low, high = score["interval_95"]
    return f"{score['accuracy']:.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("--model", help="the sweep's; left out, the embedded model")
    parser.add_argument("--text", help="any text for the model; left out, the embedded model's own")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=500, help="questions of each task")
    parser.add_argument("-o", "--output", required=True, type=Path)
    add_budgets(parser)
    asked = parser.parse_args()
    model = dmx.load_model(asked.model)
    found = {
        f"dmx, {r.specification['budget']['text']}": Assignment.from_json(r.assignment) for r in found_by_dmx(asked.sweep, asked.budgets)
    }
    layers = next(iter(found.values())).layers
    models = {
        "float": None,
        **{f"uniform {name}": Assignment.uniform(layers, name) for name in UNIFORM},
        **found,
    }
    rows: list[list[str]] = []
    for name, assignment in tqdm(models.items(), desc="assignments", unit="assignment"):
        scores = dmx.evaluate(model, assignment, text=asked.text, windows=1, kl=False, tasks=asked.tasks, task_limit=asked.limit)["tasks"]
        if not rows:
            rows.append(["guessing", *("-" if s["chance"] is None else f"{s['chance']:.3f}" for s in scores.values())])
        rows.append([name, *map(cell, scores.values())])
        write_table(
            asked.output,
            title=f"{model.name}: zero-shot accuracy",
            about=f"The first {asked.limit} questions of each task, accuracy with its 95 % interval (Wilson); BLiMP is minimal pairs, "
            "taken from each of its 67 kinds in turn.",
            head=["assignment", *scores],
            rows=rows,
        )


if __name__ == "__main__":
    main()
