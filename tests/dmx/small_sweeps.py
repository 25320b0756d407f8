"""A sweep of seconds, in this process or as a process of its own: python -m tests.dmx.small_sweeps MODEL TEXT FOLDER [WORKERS]."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dmx.sweep import Sweep, run_sweep


def small_sweep(model: Path, text: Path, **changes: Any) -> Sweep:
    """Seven runs: float, two references, and two methods at two budgets."""
    asked: dict[str, Any] = {
        "model": str(model),
        "search_text": str(text),
        "budgets": ("bits=5", "bits=6"),
        "methods": ("uniform", "dmx"),
        "references": ("mxfp4_e2m1", "mxfp8_e4m3"),
        "tokens": 64,
        "report_windows": 2,
        "search": {"steps": 3, "refine": 2, "batch_windows": 2},
    }
    return Sweep(**{**asked, **changes})


RUNS = 7

if __name__ == "__main__":
    model, text, folder, *workers = sys.argv[1:]
    run_sweep(small_sweep(Path(model), Path(text)), folder, workers=int(workers[0]) if workers else 1)
