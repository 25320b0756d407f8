"""Memory that conversions hold beside their input: `python -m benchmarks.memory`. Each in a fresh process, kernels compiled before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

import mxsim
from benchmarks.resident import MebibytesHeld
from benchmarks.timing import markdown

MIB = 256
SHAPE = (MIB * 64, 4096)  #: float32
#: operation -> what it does with an array in a format
OPERATIONS: MappingProxyType[str, Callable[[np.ndarray, str], object]] = MappingProxyType(
    {
        "fake_quantize": lambda x, format: mxsim.fake_quantize(x, format),
        "fake_quantize along columns": lambda x, format: mxsim.fake_quantize(x, format, axis=0),
        "fake_quantize of every second column": lambda x, format: mxsim.fake_quantize(x[:, ::2], format),
        "quantize": lambda x, format: mxsim.quantize(x, format),
        "quantize and pack": lambda x, format: mxsim.quantize(x, format).packed(),
        "dequantize": lambda x, format: mxsim.quantize(x, format).dequantize(),
    }
)


def results_mebibytes(result: object) -> float:
    """MiB of an operation's result."""
    if isinstance(result, np.ndarray):
        return result.nbytes / 2**20
    if isinstance(result, tuple):
        return sum(map(results_mebibytes, result))
    assert isinstance(result, mxsim.MXTensor)
    return (result.codes.nbytes + result.scales.nbytes) / 2**20


def measure(operation: str, format: str) -> tuple[float, float]:
    """(MiB held at the highest beside the input, MiB of the result)."""
    run = OPERATIONS[operation]
    run(np.ones((64, 64), np.float32), format)
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    held = MebibytesHeld()
    result = run(x, format)
    return held(), results_mebibytes(result)


def main() -> None:
    rows = []
    for operation in OPERATIONS:
        cells = []
        for format in mxsim.FORMATS:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", operation, format], capture_output=True, text=True, check=True
            )
            held, result = map(float, done.stdout.split())
            cells.append(f"{held:.0f}, {result:.0f}")
        rows.append([operation, *cells])
    print("## Memory\n")
    print(
        f"MiB held at the highest beside the input of {MIB} MiB of float32, and of those the result's own: a temporary is the difference. "
        "`python -m benchmarks.memory`\n"
    )
    print(markdown(["", *mxsim.FORMATS], rows))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(*measure(sys.argv[1], sys.argv[2]))
    else:
        main()
