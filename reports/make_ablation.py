"""`python -m reports.make_ablation -o FILE`: the search with each of its switches turned alone, on the embedded model."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import dmx
from dmx.evaluation import report_text
from mxsim.assignment import Assignment
from reports.tables import write_table

BUDGET = "bits=5"
WINDOWS = 128

#: name -> (preset, what is changed)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("default", {}),
    "no refinement": ("default", {"refine": 0}),
    "no repair, no refinement": ("default", {"repair": False, "refine": 0}),
    "start in the middle": ("default", {"start": "middle"}),
    "relaxation: bits that slide, monotone": ("default", {"relaxation": "monotone"}),
    "relaxation: bits that slide, as published": ("default", {"relaxation": "floored"}),
    "loss KL alone": ("default", {"loss": "kl"}),
    "next-token loss alone": ("default", {"loss": "ce"}),
    "no choice by curvature": ("default", {"curvature": False}),
    "two-sided penalty": ("default", {"steering": "two_sided", "strength": 1.0}),
    "one-sided penalty": ("default", {"steering": "one_sided", "strength": 5.0}),
    "SGD with Nesterov's momentum": ("default", {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.99}),
    "one format for weight and input": ("default", {"apart": False}),
    "q/k/v and gate/up tied": ("default", {"tie": True}),
    "MXFP4, MXFP6 and MXFP8 in one ladder": ("default", {"formats": ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")}),
    "two steps only (scores, repair and refinement)": ("default", {"steps": 2}),
    "paper preset": ("paper", {}),
    "paper preset with repair and refinement": ("paper", {"repair": True, "refine": 32}),
}


Run = tuple[float, float, float, int, float]  #: loss on the search text, perplexity, bits, exchanges, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("-o", "--output", required=True, type=Path)
    asked = parser.parse_args()
    model = dmx.load_model(None)
    report = report_text(model, None).first(WINDOWS)
    rows: list[list[str]] = []
    bar = tqdm(total=asked.seeds * (1 + len(VARIANTS)), desc="variants", unit="search")

    def add(name: str, search: Callable[[int], Assignment]) -> None:
        rows.append(row(name, [run(search, seed) for seed in range(asked.seeds)]))
        write_table(
            asked.output,
            title="What each of our changes is worth",
            about=f"Embedded model, MXFP4/MXFP8, budget {BUDGET}, median of {asked.seeds} seeds (their range), {asked.tokens} tokens "
            f"searched, {report.scored_tokens} reported. Each loss is the search's own: KL and a share of next-token loss, or one of them "
            "alone; comparable where that is the same. The paper preset is the published method without its learned rotations.",
            head=["search", "loss on the search text", "perplexity on the report text", "bits spent", "exchanges", "seconds"],
            rows=rows,
        )

    def run(search: Callable[[int], Assignment], seed: int) -> Run:
        start = time.perf_counter()
        found = search(seed)
        seconds = time.perf_counter() - start
        bar.update()
        told = found.search or {}
        loss = told.get("loss_after_refinement", told.get("loss_after_repair", math.nan))
        perplexity = float(dmx.evaluate(model, found, text=report, kl=False)["perplexity"])
        return loss, perplexity, (found.achieved or {})["bits"] or math.nan, told.get("exchanges", 0), seconds

    add(
        "scores along the path and a knapsack, no search",
        lambda seed: dmx.allocate(
            model, "first_order", BUDGET, apart=True, tokens=asked.tokens, seed=seed, point="path", reduction="signed"
        ),
    )
    for name, (preset, changed) in VARIANTS.items():
        add(name, partial(variant, model, preset, changed, asked.tokens))


def variant(model: dmx.LoadedModel, preset: str, changed: dict[str, Any], tokens: int, seed: int) -> Assignment:
    return dmx.search(model, BUDGET, config=preset, tokens=tokens, seed=seed, **changed)


def row(name: str, runs: list[Run]) -> list[str]:
    """A variant's line: medians, and the range of what is measured on the report text."""
    loss, perplexity, bits, exchanges, seconds = zip(*runs, strict=True)
    spread = f" ({min(perplexity):.4f}-{max(perplexity):.4f})" if len(runs) > 1 else ""
    return [
        name,
        "-" if math.isnan(loss[0]) else f"{statistics.median(loss):.5f}",
        f"{statistics.median(perplexity):.4f}{spread}",
        f"{statistics.median(bits):.3f}",
        f"{statistics.median(exchanges):.0f}",
        f"{statistics.median(seconds):.0f}",
    ]


if __name__ == "__main__":
    main()
