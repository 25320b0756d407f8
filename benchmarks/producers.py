"""How fast the libraries convert that policies are named after: `python -m benchmarks.producers ENVIRONMENTS`.

ENVIRONMENTS: a folder of Python environments called modelopt, quark and auto-round (tests/golden/policies/README.md); what is not there is
left out. Each library quantises and dequantises 64 MiB of float32 by its own eager CPU path, in a process of its own; mxsim does the same
before and after it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path

import numba
import numpy as np

import mxsim
from benchmarks.conversion import ELEMENTS, THREADS
from benchmarks.timing import markdown, seconds

ROUNDS = 5
#: library -> how it converts `x`, a float32 tensor, format by format; run in its own environment
PATHS = {
    "modelopt": """
from modelopt.torch.quantization.qtensor import MXFP4QTensor, MXFP8QTensor
def fp4():
    tensor, scales = MXFP4QTensor.quantize(x, block_size=32)
    return tensor.dequantize(dtype=torch.float32, scale=scales, block_sizes={-1: 32})
def fp8():
    tensor, scales = MXFP8QTensor.quantize(x)
    return tensor.dequantize(dtype=torch.float32, scale=scales, block_sizes={-1: 32})
runs = {"mxfp4_e2m1": fp4, "mxfp8_e4m3": fp8}
""",
    "quark": """
from quark.torch.quantization.config import config
from quark.torch.quantization.tensor_quantize import StaticScaledFakeQuantize
def fake(spec):
    def run():
        quantizer = StaticScaledFakeQuantize(
            spec(ch_axis=-1, is_dynamic=False, scale_calculation_mode="even").to_quantization_spec(), torch.device("cpu"))
        quantizer.observe(x)
        return quantizer(x)
    return run
specs = {"mxfp4_e2m1": config.OCP_MXFP4Spec, "mxfp6_e2m3": config.OCP_MXFP6E2M3Spec, "mxfp8_e4m3": config.OCP_MXFP8E4M3Spec}
runs = {name: fake(spec) for name, spec in specs.items()}
""",
    "auto-round": """
from auto_round.data_type.register import QUANT_FUNC_WITH_DTYPE
def fake(bits, element):
    return lambda: QUANT_FUNC_WITH_DTYPE[element](x.clone(), bits=bits, group_size=32, data_type=element)
runs = {"mxfp4_e2m1": fake(4, "mx_fp4"), "mxfp6_e2m3": fake(6, "mx_fp6e2m3"), "mxfp8_e4m3": fake(8, "mx_fp8e4m3")}
""",
}
MEASURED = """
import json, statistics, sys, time
import torch
torch.set_num_threads({threads})
x = torch.randn({elements}, generator=torch.Generator().manual_seed(0)).reshape(4096, -1)
{path}
for name, run in runs.items():
    run()
    taken = []
    for _ in range({rounds}):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    print("measured", json.dumps([name, statistics.median(taken)]), flush=True)
"""


def ours(name: str, x: np.ndarray, out: np.ndarray) -> float:
    mxsim.fake_quantize(x, name, out=out)
    return statistics.median(seconds(lambda: mxsim.fake_quantize(x, name, out=out)) for _ in range(3 * ROUNDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environments", type=Path)
    folder = parser.parse_args().environments
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    x = np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)
    out = np.empty_like(x)
    rows = []
    for library, path in PATHS.items():
        python = folder / library / "bin" / "python"
        if not python.exists():
            rows.append([library, "-", "-", "no environment"])
            continue
        script = MEASURED.format(threads=THREADS, elements=ELEMENTS, rounds=ROUNDS, path=path)
        done = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=False)
        found = [json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("measured")]
        if done.returncode:
            rows.append([library, "-", "-", (done.stderr.strip().splitlines() or ["failed"])[-1][:80]])
        for name, theirs in found:
            speed = 4 * ELEMENTS / theirs / 1e9
            rows.append([library, name, f"{speed:.2f}", f"{theirs / ours(name, x, out):.0f}x"])
    print("## Other producers\n")
    print(f"64 MiB of float32, {THREADS} threads, each library's own eager CPU path. `python -m benchmarks.producers ENVIRONMENTS`\n")
    print(markdown(["library", "format", "GB/s", "times slower than mxsim"], rows))


if __name__ == "__main__":
    main()
