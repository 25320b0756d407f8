"""What the tensor cores of a Hopper GPU give, beside what mxsim's models give.

`python -m benchmarks.silicon.capture FOLDER` builds products.cu, runs every path of it on operands of every kind and keeps the raw outputs;
`python -m benchmarks.silicon.compare FOLDER` holds them against mxsim.matmul, there or on any other machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.silicon.device import FORMATS, TensorCores, paths
from benchmarks.silicon.operands import Tiles, tiles_of, whole_numbers


@dataclass(frozen=True, slots=True)
class Launch:
    """One set of tiles, through every path."""

    name: str
    tiles: int
    steps: int
    with_c: bool
    seed: int

    def operands(self, a: str, b: str) -> Tiles:
        return tiles_of(a, b, self.tiles, self.steps, self.seed)


#: 1.1 million dot products for each path: with a C, from zero, and four instructions in a row.
LAUNCHES = (
    Launch(name="c", tiles=1540, steps=1, with_c=True, seed=1),
    Launch(name="zero", tiles=520, steps=1, with_c=False, seed=2),
    Launch(name="chain", tiles=130, steps=4, with_c=True, seed=3),
)

STEPS = (1, 4)  #: instructions in a row that products.cu has kernels for


def key(path: tuple[str, str, str, str], launch: Launch) -> str:
    return "/".join((*path, launch.name))


def digest(tiles: Tiles, *, with_c: bool) -> str:
    """Of the operands, so that a comparison elsewhere knows that it made the same."""
    parts = (tiles.a, tiles.b, *((tiles.c,) if with_c else ()))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def described() -> str:
    """The GPU, by name, driver and firmware."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,vbios_version", "--format=csv"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_layouts(cores: TensorCores) -> int:
    """Small whole numbers through every path, with a C: paths whose product is wrong, so that this program is, and not the hardware."""
    wrong = 0
    for path in paths():
        for steps in STEPS:
            tiles, expected = whole_numbers(*path[1:3], 8, steps)
            got = cores.products(path, tiles, steps, with_c=True)
            if not np.array_equal(got, expected):
                wrong += 1
                print(f"{' '.join(path)}, {steps} steps: {(got != expected).sum()} of {got.size} whole numbers are wrong", flush=True)
    return wrong


def capture(folder: Path) -> None:
    """Writes outputs_*.npz (bits, by key), operands.json (their digests), and what can be told of GPU and code: gpu.txt, products.sass."""
    folder.mkdir(parents=True, exist_ok=True)
    cores = TensorCores(folder)
    print(f"layouts: {check_layouts(cores)} wrong", flush=True)
    digests = {}
    for a, b in FORMATS:
        outputs: dict[str, npt.NDArray[Any]] = {}
        for launch in LAUNCHES:
            tiles = launch.operands(a, b)
            digests[f"{a}/{b}/{launch.name}"] = digest(tiles, with_c=launch.with_c)
            for path in paths():
                if path[1:3] == (a, b):
                    d = cores.products(path, tiles, launch.steps, with_c=launch.with_c)
                    outputs[key(path, launch)] = d.view(np.uint32 if path[3] == "fp32" else np.uint16)
        for name in [name for name in outputs if name.startswith("mma/")]:  # mostly zeros where both instructions agree: little to keep
            outputs[name] ^= outputs[name.replace("mma/", "wgmma/", 1)]
        np.savez_compressed(folder / f"outputs_{a}_{b}.npz", **outputs)  # type: ignore[arg-type]
        (folder / "operands.json").write_text(json.dumps(digests, indent=1) + "\n")
    for name, told in (("gpu.txt", described), ("products.sass", cores.disassembly)):
        try:
            (folder / name).write_text(told())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name} is left out: {error}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    capture(parser.parse_args().folder)
