"""Matrix units at 1024^3 against BLAS sgemm and against their own ceilings.

python -m benchmarks.units [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import ml_dtypes
import numba
import numpy as np
import numpy.typing as npt

import mxsim
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


# On Zen 3, which starts four vector instructions a cycle, two of them multiplications. fast_truncated: multiply, add, convert, add on 8
# lanes: 8. fast_grouped: two int16 multiplications of 16: 32. fast_exact: two multiply-adds of 8 float32 or 4 float64: 16 or 8.
TRUNCATED, GROUPED, SINGLE, DOUBLE = 8, 32, 16, 8
CASES = (
    Case("nvidia_hopper_wgmma", "e4m3", "e4m3", 6, TRUNCATED),
    Case("nvidia_hopper_wgmma", "e5m2", "e4m3", 6, TRUNCATED),
    Case("nvidia_blackwell", "e4m3", "e4m3", 6, TRUNCATED),
    Case("nvidia_blackwell", "mxfp8_e4m3", "mxfp8_e4m3", 6, TRUNCATED),
    Case("nvidia_blackwell", "mxfp8_e5m2", "mxfp6_e2m3", 6, TRUNCATED),
    Case("nvidia_blackwell", "mxfp6_e3m2", "mxfp6_e3m2", 6, TRUNCATED),
    Case("nvidia_blackwell", "mxfp4_e2m1", "mxfp4_e2m1", 15, GROUPED),
    Case("nvidia_blackwell", "nvfp4", "nvfp4", 15, GROUPED),
    Case("nvidia_volta", "fp16", "fp16", 2, TRUNCATED),
    Case("nvidia_turing", "fp16", "fp16", 2, TRUNCATED),
    Case("nvidia_ampere", "bf16", "bf16", 2, TRUNCATED),
    Case("nvidia_ampere", "tf32", "tf32", 2, TRUNCATED),
    Case("nvidia_hopper_wgmma", "fp16", "fp16", 2, TRUNCATED),
    Case("nvidia_hopper_wgmma", "tf32", "tf32", 2, TRUNCATED),
    Case("amd_cdna3", "fp16", "fp16", 2, TRUNCATED),
    Case("amd_cdna3", "bf16", "bf16", 2, TRUNCATED),
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


def measured(rounds: int) -> list[list[str]]:
    rows = []
    x = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
    for case in CASES:
        a, b = operand(case.a, SIZE, SIZE, 1), operand(case.b, SIZE, SIZE, 2).T
        in_format = "tf32" if case.a == "tf32" else None
        runs = {
            "unit": lambda a=a, b=b, case=case, in_format=in_format: matmul(a, b, case.unit, in_format=in_format),
            "sgemm": lambda: x @ x,
        }
        t = turns(runs, rounds)
        speed, against = gmac_per_second(t["unit"]), 1 / ratio(t["unit"], t["sgemm"])
        # sgemm's own inner loop starts 16 multiply-adds a cycle: its speed in this run stands in for the clock that a shared machine gives.
        ceiling = case.per_cycle / SINGLE * gmac_per_second(t["sgemm"])
        shares = [f"{against:.2f}", f"{case.per_cycle}", f"{speed / ceiling:.0%}"]
        rows.append([case.unit, f"{case.a} x {case.b}", f"{speed:.1f}", f"{case.target:g}", *shares])
    return rows


def linear(rounds: int) -> str:
    """4096 x 4096 on 128 tokens through Blackwell MXFP4."""
    a, b = operand("mxfp4_e2m1", 128, 4096, 3), operand("mxfp4_e2m1", 4096, 4096, 4).T
    taken = turns({"linear": lambda: matmul(a, b, "nvidia_blackwell")}, rounds)["linear"]
    return f"{statistics.median(taken):.3f} s ({gmac_per_second(taken, 128 * 4096**2):.1f} GMAC/s; target 0.5 s)"


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
    head = ["unit", "operands", "GMAC/s", "target", "of sgemm", "MAC/cycle ceiling", "of the ceiling"]
    print(markdown(head, measured(rounds)))
    print(f"\nA linear of 4096 x 4096 on 128 tokens, nvidia_blackwell MXFP4: {linear(rounds)}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
