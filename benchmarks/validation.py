"""How fast a checkpoint is validated against its float original, and in how much memory: `python -m benchmarks.validation [--gigabytes 2]`.

Makes a float checkpoint and its export (policy compressed-tensors) in a temporary folder, and removes them. Bytes are those of the
bf16 reference, the file cache is warm.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np

import mxsim
from benchmarks.timing import markdown
from mxsim.files import SafetensorsWriter

ROWS, COLUMNS = 8192, 8192
FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
BF16 = np.dtype(ml_dtypes.bfloat16)


def make(folder: Path, format: str, gigabytes: float) -> int:
    """A float checkpoint and its export. Returns: bytes of bf16."""
    # Here, so that the process that is measured holds no torch.
    from dmx.exporters.compressed_tensors import config, tensors
    from dmx.exporters.layer import Layer

    count = max(round(gigabytes * 1e9 / (2 * ROWS * COLUMNS)), 1)
    names = [f"model.layers.{n}.mlp.up_proj" for n in range(count)]
    layers = {name: Layer(name=name, weight=format, activation="bf16", shape=(ROWS, COLUMNS)) for name in names}
    x = (np.random.default_rng(0).standard_normal((ROWS, COLUMNS), np.float32) * 0.02).astype(BF16)
    parts = tensors(mxsim.quantize(x, format, policy="compressed-tensors"))
    for name, arrays in (("float", {"weight": x}), ("export", parts)):
        (folder / name).mkdir()
        layout = {f"{layer}.{suffix}": (array.dtype, array.shape) for layer in names for suffix, array in arrays.items()}
        with SafetensorsWriter(folder / name / "model.safetensors", layout, {"format": "pt"}) as writer:
            for layer in names:
                for suffix, array in arrays.items():
                    writer.write(f"{layer}.{suffix}", array)
    content = {"initializer_range": 0.02, "quantization_config": config(layers, [], "compressed-tensors")}
    (folder / "export" / "config.json").write_text(json.dumps(content))
    (folder / "float" / "config.json").write_text("{}")
    return count * x.nbytes


def child(folder: Path) -> None:
    """Validate once to warm caches and compiled code, then timed; its peak memory is this process's own."""
    from mxsim.validation import validate

    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        report = validate(folder / "export", folder / "float")
        seconds.append(time.perf_counter() - start)
        if not (report.ok and report.explains_all):
            raise SystemExit("the export is not explained")
    print(statistics.median(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main(gigabytes: float = 1.0) -> None:
    print("## Validation\n")
    print("Against the float original, every weight explained. `python -m benchmarks.validation [--gigabytes N]`\n")
    rows = []
    for format in FORMATS:
        folder = Path(tempfile.mkdtemp())
        try:
            size = make(folder, format, gigabytes)
            command = [sys.executable, "-m", "benchmarks.validation", "--child", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            seconds, peak = (float(word) for word in done.stdout.split())
            rows.append([format, f"{size / 1e9:.2f}", f"{size / seconds / 1e9:.2f}", f"{peak / 1e9:.2f}"])
        finally:
            shutil.rmtree(folder)
    print(markdown(["format", "GB of bf16", "GB/s (target 1)", "peak GB (target 1)"], rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--child", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
    else:
        main(arguments.gigabytes)
