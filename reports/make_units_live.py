"""Compares mxsim.matmul with mmasim 2.1.1, live, and writes reports/units_live.json, which reports/units.md quotes.

    python -m reports.make_units_live                 a million outputs on each of 134 paths, an hour or less
    python -m reports.make_units_live --outputs 10000 --only nvidia_ada

Needs an environment with mmasim (it brings torch and wants a C++ compiler) beside mxsim's own dependencies. Operands and comparison are
those of tests/live/test_mmasim_live.py. Results are written path by path, and paths already there are not run again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).with_name("units_live.json")


def compare(key: str) -> dict[str, Any]:
    """One path: how many outputs, how many differ, how long each side took."""
    from tests.live import test_mmasim_live as live

    path = live.PATHS[key]
    data = live.make_mmasim.operands(np.random.default_rng(live.SEED), path, live.CHUNKS, live.SIZE)
    start = time.perf_counter()
    expected = live.theirs(path, data)
    between = time.perf_counter()
    got = live.ours(path, data)
    end = time.perf_counter()
    differs = got != expected
    nan_bits = not (path.unit in ("amd_cdna1", "amd_cdna2") or path.a_format == "fp32")
    if not nan_bits:
        differs &= ~(live.is_nan(got) & live.is_nan(expected))
    return {
        "outputs": int(differs.size),
        "K": path.chunk * live.CHUNKS,
        "differing": int(differs.sum()),
        "nan_bits_compared": nan_bits,
        "mmasim_s": round(between - start, 2),
        "mxsim_s": round(end - between, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="paths whose key begins so")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    os.environ["MXSIM_LIVE_OUTPUTS"] = str(arguments.outputs)
    from tests.live import test_mmasim_live as live

    done: dict[str, Any] = json.loads(arguments.result.read_text()) if arguments.result.exists() else {"paths": {}}
    done["versions"] = {name: importlib.metadata.version(name) for name in ("mmasim", "torch", "numpy", "numba")}
    for key in live.PATHS:
        if key in done["paths"] or not key.startswith(arguments.only):
            continue
        done["paths"][key] = compare(key)
        print(f"{key:48} {done['paths'][key]}", flush=True)
        arguments.result.write_text(json.dumps(done, indent=1) + "\n")
    differing = sum(path["differing"] for path in done["paths"].values())
    print(f"{len(done['paths'])} of {len(live.PATHS)} paths, {differing} outputs differ")


if __name__ == "__main__":
    main()
