"""A search step on models of real shape, random weights: time and peak GPU memory against fixed fake quantisation.

`python -m benchmarks.silicon.search_step FOLDER` is benchmarks.search on a GPU: the same kinds of step, by CUDA events and by the
allocator's own count of its peak. Prints a table and writes FOLDER/search_step.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.search import KINDS, stepper
from benchmarks.silicon.models import untrained
from dmx.models import LoadedModel, load_model
from mxsim.files import renamed_when_whole
from mxsim.shapes import SHAPES

NAMES = ("SmolLM2-135M", "Qwen3-0.6B", "Llama-3.2-1B")
WINDOWS, CONTEXTS, ROUNDS = 8, (256, 1024), 11


def shaped(name: str, device: str) -> LoadedModel:
    """bfloat16."""
    with patch("dmx.models.content_hash", return_value=""), torch.device(device):  # minutes of a billion random weights' hash
        return load_model(untrained(SHAPES[name], context=max(CONTEXTS), dtype=torch.bfloat16).to(device))


def measured(name: str, context: int, kind: str, device: str) -> dict[str, Any]:
    """Milliseconds of each of ROUNDS steps, and MiB at the highest."""
    try:
        step = stepper(shaped(name, device), WINDOWS, kind, context)
        for _ in range(2):
            step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        taken = []
        for _ in range(ROUNDS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            torch.cuda.synchronize()
            taken.append(start.elapsed_time(end))
        return {"ms": taken, "mib": torch.cuda.max_memory_allocated() / 2**20}
    except Exception as error:  # out of memory, most likely: the other rows are still of use
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        step = None  # type: ignore[assignment]
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        for context in CONTEXTS:
            for kind in KINDS:
                rows.append({"model": name, "windows": WINDOWS, "context": context, "kind": kind, **measured(name, context, kind, "cuda")})
                fixed = next(row for row in rows if (row["model"], row["context"], row["kind"]) == (name, context, "fixed"))
                now = rows[-1]
                if "ms" in now and "ms" in fixed:
                    ms, base = statistics.median(now["ms"]), statistics.median(fixed["ms"])
                    print(
                        name,
                        context,
                        kind,
                        f"{ms:.1f} ms {ms / base:.2f}x, {now['mib']:.0f} MiB {now['mib'] / fixed['mib']:.2f}x",
                        flush=True,
                    )
                else:
                    print(name, context, kind, now.get("error"), flush=True)
                with renamed_when_whole(folder / "search_step.json") as part:
                    part.write_text(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
