"""`python -m reports.make_ablation -o FILE`: the search with each of its switches turned alone, on the embedded model, as JSON."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

import dmx
from dmx.evaluation import report_text
from mxsim.assignment import Assignment
from reports.tables import write_table

BUDGET = "bits=5"
TOKENS = 16384
WINDOWS = 128

#: name -> (preset, what is changed)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("default", {}),
    "no refinement": ("default", {"refine": 0}),
    "no repair, no refinement": ("default", {"repair": False, "refine": 0}),
    "start in the middle": ("default", {"start": "middle"}),
    "relaxation: bits that slide, monotone": ("default", {"relaxation": "monotone"}),
    "loss KL alone": ("default", {"loss": "kl"}),
    "next-token loss alone": ("default", {"loss": "ce"}),
    "no choice by curvature": ("default", {"curvature": False}),
    "two-sided penalty": ("default", {"steering": "two_sided", "strength": 1.0}),
    "one format for weight and input": ("default", {"apart": False}),
    "q/k/v and gate/up tied": ("default", {"tie": True}),
    "two steps only (scores, repair and refinement)": ("default", {"steps": 2}),
    "paper preset": ("paper", {}),
    "paper preset with repair and refinement": ("paper", {"repair": True, "refine": 32}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", required=True, type=Path)
    asked = parser.parse_args()
    model = dmx.load_model(None)
    report = report_text(model, None).first(WINDOWS)
    rows: list[list[str]] = []

    def row(name: str, loss: str, found: Assignment, exchanges: int, start: float) -> list[str]:
        seconds = time.perf_counter() - start
        perplexity = dmx.evaluate(model, found, text=report, kl=False)["perplexity"]
        return [name, loss, f"{perplexity:.4f}", f"{(found.achieved or {})['bits']:.3f}", f"{exchanges}", f"{seconds:.0f}"]

    start = time.perf_counter()
    alone = dmx.allocate(model, "first_order", BUDGET, apart=True, tokens=TOKENS, point="path", reduction="signed")
    rows.append(row("scores along the path and a knapsack, no search", "-", alone, 0, start))
    for name, (preset, changed) in tqdm(VARIANTS.items(), desc="variants", unit="search"):
        start = time.perf_counter()
        found = dmx.search(model, BUDGET, config=preset, tokens=TOKENS, **changed)
        told = found.search or {}
        loss = told.get("loss_after_refinement", told.get("loss_after_repair"))
        rows.append(row(name, f"{loss:.5f}", found, told.get("exchanges", 0), start))
        write_table(
            asked.output,
            title="What each of our changes is worth",
            about=f"Embedded model, MXFP4/MXFP8, budget {BUDGET}, seed 0, {TOKENS} tokens searched, {report.scored_tokens} reported. "
            "Each loss is the search's own: KL and a share of next-token loss, or one of them alone; comparable where that is the same.",
            head=["search", "loss on the search text", "perplexity on the report text", "bits spent", "exchanges", "seconds"],
            rows=rows,
        )


if __name__ == "__main__":
    main()
