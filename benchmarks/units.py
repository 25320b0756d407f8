"""Matrix units at 1024^3 against BLAS sgemm, mmasim and their own ceilings.

python -m benchmarks.units [--rounds 5]         MXSIM_MMASIM_PYTHON: the Python that has mmasim, where this one has not
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ml_dtypes
import numba
import numpy as np
import numpy.typing as npt

import mxsim
from benchmarks import mmasim_peer
from benchmarks.timing import markdown, ratio, turns
from mxsim.tensor import MXTensor
from mxsim.units.matmul import matmul

SIZE = 1024
THREADS = 2
DTYPES = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "tf32": np.float32,
}


@dataclass(frozen=True)
class Case:
    unit: str
    a: str
    b: str
    target: float  #: GMAC/s
    per_cycle: float  #: MAC a core can start in a cycle, the inner loop alone
    times: float | None = None  #: how many times mmasim's speed is asked for

    @property
    def key(self) -> str:
        """The path's name in tests/golden/units."""
        return f"{self.unit}/{self.a}_{self.b}/fp32"


# On Zen 3, which starts four vector instructions a cycle, two of them multiplications. fast_truncated: multiply, add, convert, add on 8
# lanes: 8. fast_grouped: two int16 multiplications of 16: 32. fast_exact: two multiply-adds of 8 float32 or 4 float64: 16 or 8.
TRUNCATED, GROUPED, SINGLE, DOUBLE = 8, 32, 16, 8
WIDE_UNITS = (
    "nvidia_ampere",
    "nvidia_ada",
    "nvidia_hopper_wgmma",
    "nvidia_hopper_mma",
    "nvidia_blackwell",
    "nvidia_blackwell_mma",
)
CASES = (
    Case("nvidia_hopper_wgmma", "e4m3", "e4m3", 6, TRUNCATED, 500),
    Case("nvidia_hopper_wgmma", "e5m2", "e4m3", 6, TRUNCATED, 500),
    Case("nvidia_blackwell", "e4m3", "e4m3", 6, TRUNCATED, 500),
    Case("nvidia_blackwell", "mxfp8_e4m3", "mxfp8_e4m3", 6, TRUNCATED, 500),
    Case("nvidia_blackwell", "mxfp8_e5m2", "mxfp6_e2m3", 6, TRUNCATED, 500),
    Case("nvidia_blackwell", "mxfp6_e3m2", "mxfp6_e3m2", 6, TRUNCATED, 500),
    Case("nvidia_blackwell", "mxfp4_e2m1", "mxfp4_e2m1", 15, GROUPED, 300),
    Case("nvidia_blackwell", "nvfp4", "nvfp4", 15, GROUPED, 300),
    Case("nvidia_volta", "fp16", "fp16", 2, TRUNCATED, 100),
    Case("nvidia_turing", "fp16", "fp16", 2, TRUNCATED, 100),
    *(Case(unit, f, f, 2, TRUNCATED, 100) for unit in WIDE_UNITS for f in ("fp16", "bf16", "tf32")),
    Case("amd_cdna3", "fp16", "fp16", 2, TRUNCATED, 100),
    Case("amd_cdna3", "bf16", "bf16", 2, TRUNCATED, 100),
    *(Case(unit, f, f, 5, SINGLE) for unit in ("mx_exact", "pulp_mxdotp") for f in ("mxfp4_e2m1", "mxfp6_e2m3", "mxint8")),
    *(Case(unit, "mxfp8_e4m3", "mxfp8_e4m3", 5, DOUBLE) for unit in ("mx_exact", "pulp_mxdotp")),
    *(Case("mx_fp32_chain", f, f, 8, SINGLE) for f in ("mxfp4_e2m1", "mxfp6_e3m2", "mxint8")),
    Case("mx_fp32_chain", "mxfp8_e4m3", "mxfp8_e4m3", 8, DOUBLE),
    Case("mx_fp32_chain", "mxfp8_e5m2", "mxfp8_e5m2", 1, DOUBLE),
)
Operand = MXTensor | npt.NDArray[np.generic]


def operand(name: str, rows: int, columns: int, seed: int) -> Operand:
    """(rows, columns), standard normal, blocked along the columns."""
    x = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    return x.astype(DTYPES[name]) if name in DTYPES else mxsim.quantize(x, name)


def clock_hz() -> float | None:
    """The clock that the system reports for the first core."""
    try:
        with open("/proc/cpuinfo") as info:
            return next(1e6 * float(line.split(":")[1]) for line in info if line.startswith("cpu MHz"))
    except (OSError, StopIteration, ValueError):
        return None


def gmac_per_second(taken: list[float], macs: int = SIZE**3) -> float:
    return macs / statistics.median(taken) / 1e9


def cpu_seconds(run: Callable[[], object]) -> float:
    """The processor time of a run on one thread: what other work on the machine stretches little."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    start = time.process_time()
    run()
    taken = time.process_time() - start
    numba.set_num_threads(threads)
    return taken


def measured(rounds: int, peer: mmasim_peer.Peer) -> Iterator[list[str]]:
    x = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
    for case in CASES:
        a, b = operand(case.a, SIZE, SIZE, 1), operand(case.b, SIZE, SIZE, 2).T
        in_format = "tf32" if case.a == "tf32" else None

        def unit(a: Operand = a, b: Operand = b, case: Case = case, in_format: str | None = in_format) -> object:
            return matmul(a, b, case.unit, in_format=in_format)

        t = turns({"unit": unit, "sgemm": lambda: x @ x}, rounds, rest_s=0.1)
        speed, against = gmac_per_second(t["unit"]), 1 / ratio(t["unit"], t["sgemm"])
        # sgemm's own inner loop starts 16 multiply-adds a cycle: its speed in this run stands in for the clock that a shared machine gives.
        ceiling = case.per_cycle / SINGLE * gmac_per_second(t["sgemm"])
        known = peer.takes(case.key)
        one, theirs = [], []
        for _ in range(rounds):
            one.append(cpu_seconds(unit))
            if known:
                theirs.append(peer.seconds(case.key))
        macs = mmasim_peer.SIZE**2 * mmasim_peer.K
        mmasim = ["-", "-"]
        if known:
            mmasim = [f"{1e3 * gmac_per_second(theirs, macs):.1f}", f"{ratio(theirs, one) * SIZE**3 / macs:.0f}x"]
        wanted = f"{case.times:g}x" if case.times else "-"
        shares = [f"{against:.2f}", f"{case.per_cycle}", f"{speed / ceiling:.0%}"]
        head = [case.unit, f"{case.a} x {case.b}", f"{speed:.1f}", f"{case.target:g}"]
        yield [*head, f"{gmac_per_second(one):.1f}", *mmasim, wanted, *shares]


def linear(rounds: int) -> str:
    """4096 x 4096 on 128 tokens through Blackwell MXFP4."""
    a, b = operand("mxfp4_e2m1", 128, 4096, 3), operand("mxfp4_e2m1", 4096, 4096, 4).T

    def run() -> object:
        return matmul(a, b, "nvidia_blackwell")

    taken = turns({"linear": run}, rounds, rest_s=0.1)["linear"]
    one = statistics.median(cpu_seconds(run) for _ in range(rounds))
    speed = gmac_per_second(taken, 128 * 4096**2)
    return f"{statistics.median(taken):.3f} s ({speed:.1f} GMAC/s; target 0.5 s); {one:.3f} s of processor time on one thread"


def main(rounds: int = 5) -> None:
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    clock = clock_hz()
    print("## Matrix units\n")
    told = f", clock {clock / 1e9:.2f} GHz as reported" if clock else ""
    print(f"{SIZE}^3, C = 0, {numba.get_num_threads()} threads{told}, medians of {rounds} turns with sgemm. `python -m benchmarks.units`\n")
    print(
        "Ceiling: products that a core's inner loop can start in a cycle, where a sgemm starts 16 (two multiply-adds of 8 lanes); the last "
        "column is the share of it that is reached, with sgemm's speed in the same turns for the clock.\n"
    )
    print(
        "One thread, and mmasim beside it: per second of processor time on one thread, in turns, which other work on the machine stretches "
        "less than the time of day.\n"
    )
    head = ["unit", "operands", "GMAC/s", "target", "one thread", "mmasim MMAC/s", "times mmasim", "target"]
    head += ["of sgemm", "MAC/cycle ceiling", "of the ceiling"]
    with mmasim_peer.Peer() as peer:
        shape = f"{mmasim_peer.SIZE} x {mmasim_peer.SIZE} x {mmasim_peer.K}"
        print(
            f"mmasim {peer.version}: {shape}, in a process of its own, one thread; - where it has no such path.\n"
            if peer.version
            else "mmasim 2.1.1: not installed, not measured (MXSIM_MMASIM_PYTHON names a Python that has it).\n"
        )
        print(markdown(head, []))
        for row in measured(rounds, peer):
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\nA linear of 4096 x 4096 on 128 tokens, nvidia_blackwell MXFP4: {linear(rounds)}.")
    if hasattr(os, "getloadavg"):
        one, *_, fifteen = os.getloadavg()
        print(f"\nLoad of the machine at the end: {one:.1f} over a minute, {fifteen:.1f} over fifteen, on {os.cpu_count()} cores.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
