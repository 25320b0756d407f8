"""Quantise, fake-quantise and dequantise 64 MiB of float32, against a memory copy and against eager peers.

    python -m benchmarks.conversion [--rounds 9] [--processes 7]

torchao and compressed-tensors are measured where they can be imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import ml_dtypes
import numba
import numpy as np
import numpy.typing as npt

import mxsim
from benchmarks.timing import markdown, ratio, turns
from mxsim.formats import BlockFormat

Float32 = npt.NDArray[np.float32]
Measured = dict[str, dict[str, float]]  #: by format and column

ELEMENTS = 1 << 24
THREADS = 2
TARGETS = {"mxfp4_e2m1": 25, "mxfp6_e3m2": 25, "mxfp6_e2m3": 25, "mxint8": 25, "mxfp8_e4m3": 7, "mxfp8_e5m2": 7}
CASTS = {
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}


def numpy_peer(format: BlockFormat, x: Float32) -> Callable[[], object]:
    """What a careful user writes with numpy and ml_dtypes."""

    def run() -> object:
        blocks = x.reshape(-1, format.block_size)
        amax = np.abs(blocks).max(axis=1, keepdims=True)
        exponent = np.maximum(np.frexp(amax)[1] - 1 - format.element.emax, -127)
        scale = np.ldexp(np.float32(1), exponent)
        scaled = np.clip(blocks / scale, -format.element.max, format.element.max)
        if format.element.is_fixed_point:
            return np.rint(scaled * 64) / 64 * scale
        return scaled.astype(CASTS[format.element.name]).astype(np.float32) * scale

    return run


def torchao_peer(format: BlockFormat, x: Float32) -> Callable[[], object] | None:
    """torchao's own eager to_mx and to_dtype, floor rule."""
    if importlib.util.find_spec("torchao") is None:
        return None
    import torch
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
    from torchao.prototype.mx_formats.mx_tensor import to_dtype, to_mx

    dtypes = {
        "mxfp4_e2m1": torch.float4_e2m1fn_x2,
        "mxfp6_e2m3": DTYPE_FP6_E2M3,
        "mxfp6_e3m2": DTYPE_FP6_E3M2,
        "mxfp8_e4m3": torch.float8_e4m3fn,
        "mxfp8_e5m2": torch.float8_e5m2,
    }
    dtype = dtypes.get(format.name)
    if dtype is None:
        return None
    torch.set_num_threads(THREADS)
    tensor = torch.from_numpy(x.reshape(4096, -1))

    def run() -> object:
        scale, codes = to_mx(tensor, dtype, 32, ScaleCalculationMode.FLOOR)
        return to_dtype(codes, scale, dtype, 32, torch.float32)

    return run


def compressed_tensors_peer(format: BlockFormat, x: Float32) -> Callable[[], object] | None:
    """compressed-tensors' fake quantisation with scales found by its own helper."""
    presets = {"mxfp4_e2m1": "MXFP4A16", "mxfp8_e4m3": "MXFP8A16"}
    if importlib.util.find_spec("compressed_tensors") is None or format.name not in presets:
        return None
    import torch
    from compressed_tensors.quantization import preset_name_to_scheme
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    torch.set_num_threads(THREADS)
    weights = preset_name_to_scheme(presets[format.name], ["Linear"]).weights
    tensor = torch.from_numpy(x.reshape(4096, -1))

    def run() -> object:
        scale, zero_point = compute_dynamic_scales_and_zp(tensor, weights, torch.nn.Module())
        return fake_quantize(tensor, scale, zero_point, weights)

    return run


PEERS = {"numpy + ml_dtypes": numpy_peer, "torchao 0.18": torchao_peer, "compressed-tensors 0.20": compressed_tensors_peer}


def gigabytes_per_second(taken: list[float]) -> float:
    return 4 * ELEMENTS / statistics.median(taken) / 1e9


def array() -> Float32:
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    return np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)


def against_copy(rounds: int) -> Measured:
    """All formats in one turn: what else the machine does for a while then strikes all of them alike."""
    x = array()
    out = np.empty_like(x)
    cases: dict[str, dict[str, Any]] = {name: {"format": name} for name in mxsim.FORMATS}
    cases["nvfp4, tensor scale given"] = {"format": "nvfp4", "tensor_scale": 0.002}
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, how in cases.items():
        q = mxsim.quantize(x, **how)
        runs |= {
            (name, "copyto"): lambda: np.copyto(out, x),
            (name, "fake"): lambda how=how: mxsim.fake_quantize(x, **how, out=out),
            (name, "dequantize"): lambda q=q: q.dequantize(out=out),
            (name, "copy"): lambda: x.copy(),
            (name, "fake new"): lambda how=how: mxsim.fake_quantize(x, **how),
            (name, "dequantize new"): lambda q=q: q.dequantize(),
            (name, "codes"): lambda how=how: mxsim.quantize(x, **how),
            (name, "packed"): lambda how=how: mxsim.quantize(x, **how).packed(),
        }
    t = turns(runs, rounds)
    pairs = {
        "fake, out": ("copyto", "fake"),
        "dequantize, out": ("copyto", "dequantize"),
        "fake, new": ("copy", "fake new"),
        "dequantize, new": ("copy", "dequantize new"),
        "to codes": ("fake new", "codes"),
        "to packed bytes": ("fake new", "packed"),
    }
    return {
        name: {"fake GB/s": gigabytes_per_second(t[name, "fake"])}
        | {column: ratio(t[name, slower], t[name, faster]) for column, (slower, faster) in pairs.items()}
        for name in cases
    }


def against_peers(rounds: int) -> Measured:
    """All formats in one turn, likewise: GB/s, and how many times slower than mxsim the peers are."""
    x = array()
    out = np.empty_like(x)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name in TARGETS:
        runs[name, "mxsim"] = lambda name=name: mxsim.fake_quantize(x, name, out=out)
        runs |= {(name, peer): run for peer, make in PEERS.items() if (run := make(mxsim.FORMATS[name], x)) is not None}
    t = turns(runs, rounds)
    found: Measured = {}
    for name in TARGETS:
        slower = {f"{peer}, slower": ratio(t[name, peer], t[name, "mxsim"]) for peer in PEERS if (name, peer) in t}
        speeds = {one: gigabytes_per_second(t[name, one]) for one in ("mxsim", *PEERS) if (name, one) in t}
        found[name] = {**speeds, **slower, "fastest peer": min(slower.values())}
    return found


def in_processes(measure: Callable[[int], Measured], rounds: int, processes: int) -> dict[str, dict[str, list[float]]]:
    """What each of several fresh processes measures: what new memory costs differs more between processes than between turns."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for _ in range(processes):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            for name, columns in fresh.submit(measure, rounds).result().items():
                for column, value in columns.items():
                    gathered.setdefault(name, {}).setdefault(column, []).append(value)
    return gathered


def peers_row(name: str, measured: dict[str, list[float]]) -> list[str]:
    middle = {column: statistics.median(values) for column, values in measured.items()}
    cells = [f"{middle[p]:.1f} ({middle[f'{p}, slower']:.0f}x)" if p in middle else "-" for p in PEERS]
    fastest = measured["fastest peer"]
    spread = f"{middle['fastest peer']:.1f}x ({min(fastest):.1f} to {max(fastest):.1f})"
    return [name, f"{middle['mxsim']:.1f}", *cells, spread, f"{TARGETS[name]}x"]


def main(rounds: int = 9, processes: int = 7) -> None:
    threads = min(THREADS, numba.config.NUMBA_NUM_THREADS)
    print("## Conversion\n")
    print(
        f"64 MiB of float32, standard normal, {threads} threads, medians over {processes} fresh processes, of {rounds} turns each. "
        "`python -m benchmarks.conversion`\n"
    )
    print(
        "Share of the speed of a memory copy (numpy's, one thread): `np.copyto` where the output is given, `x.copy()` where it is made. "
        "Targets 0.8. The last two columns: times faster than `fake_quantize(x)`, target above 1. NVFP4 has to find the whole tensor's "
        "largest magnitude first, unless its tensor scale is given: it reads x twice, three streams of memory to a copy's two. How much "
        "a new array costs, and so how fast `x.copy()` and numpy's peers are, changes from process to process.\n"
    )
    copies = in_processes(against_copy, rounds, processes)
    columns = list(next(iter(copies.values())))
    rows = [
        [name, *(f"{statistics.median(measured[c]):.{1 if 'GB/s' in c else 2}f}" for c in columns)] for name, measured in copies.items()
    ]
    print(markdown(["format", *columns], rows))
    print(
        "\nAgainst eager peers that quantise and dequantise the same array, GB/s of float32 input (times slower than mxsim); "
        "in brackets behind the fastest, the lowest and highest of the processes:\n"
    )
    peers = in_processes(against_peers, rounds, processes)
    print(markdown(["format", "mxsim", *PEERS, "fastest peer", "target"], [peers_row(name, measured) for name, measured in peers.items()]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--processes", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.processes)
