"""Fit and check the roofline's three figures against measured GEMM tables.

The tables are those of aiconfigurator-core 0.12.0 (Apache-2.0; NVIDIA's measurements of TensorRT-LLM, milliseconds a GEMM). They are
no dependency: install the package with pandas, pyarrow and scipy in an environment of its own and run this with mxsim on the path.

    python benchmarks/latency/calibrate.py fit                  the figures, as lines of a device file
    python benchmarks/latency/calibrate.py check -o FILE.json   the shipped device files' error on the held-out half

A weight shape (n, k) is in the half that is fitted or in the half that is held out, with all its M.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from mxsim.devices import Device, load_device
from mxsim.roofline import roofline
from mxsim.storage_formats import STORAGE_FORMATS, StorageFormat
from mxsim.traffic import linear_traffic
from mxsim.workload import LinearShape, linear_matmul

PACKAGE = "aiconfigurator-core 0.12.0"
#: DeepGEMM's block-scaled FP8: an FP32 scale for 128 elements
FP8_BLOCK = StorageFormat(name="fp8_block", element_bits=8, block_size=128, scale_bits=32, source="DeepGEMM")
OPERANDS = {
    "bfloat16": (STORAGE_FORMATS["bf16"], STORAGE_FORMATS["bf16"]),
    "fp8": (STORAGE_FORMATS["fp8_e4m3"], STORAGE_FORMATS["fp8_e4m3"]),
    "fp8_block": (FP8_BLOCK, FP8_BLOCK),
    "nvfp4": (STORAGE_FORMATS["nvfp4"], STORAGE_FORMATS["nvfp4"]),
    "int8_wo": (STORAGE_FORMATS["int8"], STORAGE_FORMATS["bf16"]),
    "int4_wo": (STORAGE_FORMATS["int4"], STORAGE_FORMATS["bf16"]),
}
#: device -> folder of its table, version of TensorRT-LLM, and the compute path that each type of GEMM calibrates
BLACKWELL = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "mxfp8", "nvfp4": "nvfp4"}
TABLES: dict[str, tuple[str, str, dict[str, str]]] = {
    "a100": ("a100_sxm", "1.0.0", {"bfloat16": "bf16", "int8_wo": "int8_weight_only", "int4_wo": "int4_weight_only"}),
    "h100": ("h100_sxm", "1.3.0rc20", {"bfloat16": "bf16", "fp8": "fp8"}),
    "h200": ("h200_sxm", "1.3.0rc20", {"bfloat16": "bf16", "fp8": "fp8"}),
    "b200": ("b200_sxm", "1.3.0rc20", BLACKWELL),
    "gb200": ("gb200", "1.3.0rc20", BLACKWELL),
    "b300": ("b300_sxm", "1.3.0rc20", BLACKWELL),
    "rtx_pro_6000": ("rtx_pro_6000_server", "1.3.0rc20", BLACKWELL),
}


def load_table(root: Path, folder: str, version: str, gemm_type: str) -> pd.DataFrame:
    """m, n, k and seconds, with `held_out`."""
    table = pd.read_parquet(root / folder / "gemm" / "trtllm" / version / "gemm_perf.parquet")
    table = table[table.gemm_dtype == gemm_type][["m", "n", "k", "latency"]].astype(float)
    table["seconds"] = table.pop("latency") * 1e-3
    table["held_out"] = [zlib.crc32(f"{int(n)}x{int(k)}".encode()) % 2 == 1 for n, k in zip(table.n, table.k, strict=True)]
    return table


def terms(table: pd.DataFrame, device: Device, gemm_type: str, path: str) -> np.ndarray:
    """Columns: compute, memory and quantise seconds at full rate; then flop/peak and bytes/bandwidth without padding, quantise pass
    or refetches: the plain roofline."""
    weight, activation = OPERANDS[gemm_type]
    chosen = replace(device.path(path), compute_efficiency=None, memory_efficiency=None, launch_s=None)
    rows = []
    for m, n, k in table[["m", "n", "k"]].astype(int).itertuples(index=False):
        matmul = linear_matmul(LinearShape(name="gemm", out_features=n, in_features=k), m)
        traffic = linear_traffic(matmul, weight, activation, device.buffer)
        time = roofline(matmul, traffic, chosen, device)
        assert time is not None
        plain = (traffic.operand_bytes - traffic.refetch_bytes) / device.memory.bandwidth_bytes_per_s.value
        rows.append((time.compute_s, time.memory_s, time.quantise_s, 2 * m * n * k / chosen.peak_flop_per_s.value, plain))
    return np.array(rows)


def predict(columns: np.ndarray, compute_efficiency: float, memory_efficiency: float, launch_s: float) -> np.ndarray:
    compute, memory, quantise = columns[:, 0], columns[:, 1], columns[:, 2]
    return np.maximum(compute / compute_efficiency, memory / memory_efficiency) + quantise / memory_efficiency + launch_s


def fit(columns: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """The three figures that make the mean absolute log error least."""

    def loss(logs: np.ndarray) -> float:
        return float(np.mean(np.abs(np.log(predict(columns, *np.exp(logs[:2]), np.exp(logs[2]) * 1e-6) / seconds))))

    starts = ([-0.5, -0.3, 1.0], [-0.7, -0.5, 2.3])
    options = {"xatol": 1e-4, "fatol": 1e-6, "maxiter": 1500}
    best = min((minimize(loss, start, method="Nelder-Mead", options=options) for start in starts), key=lambda found: found.fun)
    return float(np.exp(best.x[0])), float(np.exp(best.x[1])), float(np.exp(best.x[2]) * 1e-6)


def error(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    off = np.abs(predicted / measured - 1)
    return {"median": round(float(np.median(off)), 4), "p90": round(float(np.percentile(off, 90)), 4)}


def by_rows(table: pd.DataFrame, predicted: np.ndarray) -> dict[str, float]:
    """The median of predicted / measured - 1 for ranges of M: where the form is too fast or too slow."""
    off, rows = predicted / table.seconds.to_numpy() - 1, table.m.to_numpy()
    ranges = {"1-16": rows <= 16, "17-256": (rows > 16) & (rows <= 256), "257-2304": (rows > 256) & (rows <= 2304), "2305-": rows > 2304}
    return {name: round(float(np.median(off[inside])), 3) for name, inside in ranges.items() if inside.any()}


def run(root: Path, check: bool) -> list[dict[str, Any]]:
    results = []
    for name, (folder, version, paths) in TABLES.items():
        device = load_device(name)
        for gemm_type, path in paths.items():
            table = load_table(root, folder, version, gemm_type)
            columns, seconds, held_out = terms(table, device, gemm_type, path), table.seconds.to_numpy(), table.held_out.to_numpy()
            result: dict[str, Any] = {"device": name, "type": gemm_type, "path": path, "gemms": len(table)}
            if check:
                shipped = device.path(path)
                figures = (shipped.compute_efficiency.value, shipped.memory_efficiency.value, shipped.launch_s.value)
                result["held_out_gemms"] = int(held_out.sum())
                result["calibrated"] = error(predict(columns[held_out], *figures), seconds[held_out])
                result["plain_roofline"] = error(columns[held_out, 3:].max(axis=1), seconds[held_out])
                result["fitted_half"] = error(predict(columns[~held_out], *figures), seconds[~held_out])
                bare = columns * (1, 1, 0, 1, 1)
                result["without_the_pass"] = error(predict(bare[held_out], *fit(bare[~held_out], seconds[~held_out])), seconds[held_out])
                result["signed_median_by_rows"] = by_rows(table[held_out], predict(columns[held_out], *figures))
            else:
                figures = fit(columns[~held_out], seconds[~held_out])
            result["compute_efficiency"], result["memory_efficiency"] = round(figures[0], 3), round(figures[1], 3)
            result["launch_s"] = float(f"{figures[2]:.3g}")
            print(json.dumps(result), file=sys.stderr, flush=True)
            results.append(result)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "check"))
    parser.add_argument("--tables", type=Path, help="the package's systems/data folder; found where it is installed")
    parser.add_argument("-o", "--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    root = options.tables
    if root is None:
        spec = importlib.util.find_spec("aiconfigurator_core")
        if spec is None or not spec.submodule_search_locations:
            sys.exit("aiconfigurator-core is not installed: pip install aiconfigurator-core==0.12.0, or pass --tables")
        root = Path(spec.submodule_search_locations[0]) / "systems" / "data"
    results = run(root, options.what == "check")
    if options.out:
        options.out.write_text(json.dumps({"tables": PACKAGE, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
