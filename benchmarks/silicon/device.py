"""Builds products.cu and runs it: what the tensor cores of the GPU in this machine give for given bits."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.silicon.operands import COLUMNS, ROWS, Codes, Tiles

SOURCE = Path(__file__).parent / "products.cu"
TARGET = "arch=compute_90a,code=sm_90a"  #: wgmma is in no other

#: As products.cu numbers them.
FORMATS = {
    ("e4m3", "e4m3"): 0,
    ("e4m3", "e5m2"): 1,
    ("e5m2", "e4m3"): 2,
    ("e5m2", "e5m2"): 3,
    ("fp16", "fp16"): 4,
    ("bf16", "bf16"): 5,
    ("tf32", "tf32"): 6,
}
INSTRUCTIONS = {"wgmma": "nvidia_hopper_wgmma", "mma": "nvidia_hopper_mma"}  #: and the unit that models it
OUTPUTS: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16}


def paths() -> list[tuple[str, str, str, str]]:
    """(instruction, format of A, format of B, output) of everything that products.cu has a kernel for."""
    return [
        (instruction, a, b, out)
        for instruction in INSTRUCTIONS
        for a, b in FORMATS
        for out in OUTPUTS
        if out == "fp32" or a not in ("bf16", "tf32")
    ]


class TensorCores:
    """products.cu, built into a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises: RuntimeError without a CUDA compiler; CalledProcessError where it fails."""
        nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
        if nvcc is None:
            raise RuntimeError("no nvcc on the PATH: products.cu needs the CUDA toolkit, 12.4 or newer")
        self.shared_object = folder.resolve() / "products.so"
        command = [
            nvcc,
            "-O2",
            "-std=c++17",
            "-gencode",
            TARGET,
            "-shared",
            "-Xcompiler",
            "-fPIC",
            "-o",
            str(self.shared_object),
            str(SOURCE),
        ]
        subprocess.run(command, check=True)
        self._run = ctypes.CDLL(str(self.shared_object)).run
        self._run.restype = ctypes.c_char_p

    def disassembly(self) -> str:
        return subprocess.run(["cuobjdump", "--dump-sass", str(self.shared_object)], check=True, capture_output=True, text=True).stdout

    def products(self, path: tuple[str, str, str, str], tiles: Tiles, steps: int, *, with_c: bool) -> npt.NDArray[Any]:
        """(tiles, ROWS, COLUMNS) D in the output's dtype. Raises: RuntimeError with CUDA's own words."""
        instruction, a, b, out = path
        count = len(tiles.a)
        d = np.empty((count, ROWS, COLUMNS), OUTPUTS[out])
        with np.errstate(over="ignore", invalid="ignore"):
            c = np.ascontiguousarray(tiles.c, OUTPUTS[out]) if with_c else None
        error = self._run(
            FORMATS[a, b], int(instruction == "wgmma"), int(out == "fp16"), steps, count, *map(_pointer, (tiles.a, tiles.b, c, d))
        )
        if error:
            raise RuntimeError(f"{' '.join(path)}: {error.decode()}")
        return d


def _pointer(array: Codes | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
