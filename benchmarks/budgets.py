"""One budget from the command to its assignment, on the small models that the reports use, against what each may take.

`python -m benchmarks.budgets` prints the rows of reports/benchmarks.md. Models other than the embedded one, and their texts, are those of
the folder that MXSIM_SHARED_DATA names; without it they are left out, and the table says so.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import markdown

BUDGET = "bits=5"
THREE = ("--formats", "mxfp4_e2m1,mxfp6_e2m3,mxfp8_e4m3")
TINY_STORIES = ("tinystories/tinystories_val.txt", "--part", "first", "--window", "256")
WIKITEXT = ("wikitext-2/wiki.valid.raw",)
#: what is shown, model's folder and text with its options (None: embedded), other options, seconds it may take
SEARCHES: tuple[tuple[str, str | None, tuple[str, ...], tuple[str, ...], int], ...] = (
    ("embedded", None, (), (), 60),
    ("embedded, three formats", None, (), THREE, 60),
    ("stories260K", "models/stories260K", TINY_STORIES, (), 120),
    ("stories260K, three formats", "models/stories260K", TINY_STORIES, THREE, 120),
    ("openstax-llama-3m", "models/openstax-llama-3m", WIKITEXT, (), 300),
    ("openstax-qwen3-3m", "models/openstax-qwen3-3m", WIKITEXT, (), 300),
)
#: Processes of each search that may take no longer than LONG seconds: one takes now 50, now 65 on the same machine.
TURNS = 3
LONG = 120


def search_seconds(model: str | None, text: tuple[str, ...], options: tuple[str, ...], data: Path) -> float:
    """What `dmx search` takes in a process of its own."""
    named = [] if model is None else [str(data / model), "--text", str(data / text[0]), *text[1:]]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dmx", "search", *named, "--budget", BUDGET, *options, "-o", folder]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    shared = os.environ.get("MXSIM_SHARED_DATA")
    data = Path(shared or ".")
    rows, left_out = [], []
    for title, model, text, options, limit in SEARCHES:
        if model is not None and shared is None:
            left_out.append(title)
            continue
        taken = [search_seconds(model, text, options, data) for _ in range(TURNS if limit <= LONG else 1)]
        span = f" ({min(taken):.0f}-{max(taken):.0f})" if len(taken) > 1 else ""
        rows.append([title, f"{statistics.median(taken):.0f}{span}", str(limit)])
    print("## One budget\n")
    print(f"`dmx search --budget {BUDGET}` from start to end, libraries' loading included, on all cores. Median of {TURNS} processes and")
    print(f"their range; once where it may take more than {LONG} s.\n")
    print(markdown(["model", "seconds", "at most"], rows))
    if left_out:
        print(f"\nLeft out, as MXSIM_SHARED_DATA names no folder: {', '.join(left_out)}.")


if __name__ == "__main__":
    main()
