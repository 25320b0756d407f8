"""Captured outputs of tensor cores against mxsim.matmul: `python -m benchmarks.silicon.compare FOLDER [--golden FILE]`.

FOLDER is what `python -m benchmarks.silicon.capture` wrote. Operands are made again from their seeds and must have the digests that were
captured. Prints a table and writes FOLDER/compared.json; mismatching dot products are told whole.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mxsim
from benchmarks.silicon.capture import LAUNCHES, Launch, digest, key
from benchmarks.silicon.device import FORMATS, INSTRUCTIONS, paths
from benchmarks.silicon.operands import CASES, Tiles
from mxsim.files import renamed_when_whole
from mxsim.units.operands import OPERANDS

SHOWN = 5  #: mismatches told of each path and launch
GOLDEN = {"c": 1400, "zero": 400, "chain": 200}  #: dot products of each launch that are kept with the project's tests

Path4 = tuple[str, str, str, str]


@dataclass(slots=True)
class Compared:
    """One path's outputs of one launch."""

    path: Path4
    launch: str
    dots: int
    mismatches: int
    by_case: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)


def modelled(path: Path4, tiles: Tiles, *, with_c: bool, unit: Any = None) -> npt.NDArray[Any]:
    """(tiles, ROWS, COLUMNS) as mxsim's model of the instruction has it."""
    instruction, fa, fb, out = path
    a, b = tiles.a.view(OPERANDS[fa].dtype), tiles.b.view(OPERANDS[fb].dtype)
    in_format = "tf32" if fa == "tf32" else None
    products = [
        mxsim.matmul(x, y.T, unit=unit or INSTRUCTIONS[instruction], c=c if with_c else None, out=out, in_format=in_format)
        for x, y, c in zip(a, b, tiles.c, strict=True)
    ]
    return np.stack(products)


def captured(folder: Path, path: Path4, launch: Launch) -> npt.NDArray[Any]:
    """(tiles, ROWS, COLUMNS) bits."""
    with np.load(folder / f"outputs_{path[1]}_{path[2]}.npz") as outputs:
        bits = outputs[key(path, launch)]
        return bits if path[0] == "wgmma" else bits ^ outputs[key(("wgmma", *path[1:]), launch)]


def compared(folder: Path, path: Path4, launch: Launch) -> Compared:
    tiles = launch.operands(*path[1:3])
    kept = json.loads((folder / "operands.json").read_text())
    if digest(tiles, with_c=launch.with_c) != kept[f"{path[1]}/{path[2]}/{launch.name}"]:
        raise SystemExit(f"{path[1:3]} {launch.name}: the operands made here are not those captured; compare with the commit that captured")
    got, want = (
        captured(folder, path, launch),
        modelled(path, tiles, with_c=launch.with_c).view(np.uint32 if path[3] == "fp32" else np.uint16),
    )
    wrong = np.argwhere(got != want)
    result = Compared(path=path, launch=launch.name, dots=got.size, mismatches=len(wrong))
    result.by_case.update(CASES[tiles.case[tile]].__name__ for tile, _, _ in wrong)
    for tile, row, column in wrong[:: max(len(wrong) // SHOWN, 1)][:SHOWN]:
        c = tiles.c[tile, row, column].view(np.uint32) if launch.with_c else 0
        result.examples.append(
            {
                "case": CASES[tiles.case[tile]].__name__,
                "a": tiles.a[tile, row].tolist(),
                "b": tiles.b[tile, column].tolist(),
                "c": f"{c:08x}",
                "hardware": f"{got[tile, row, column]:x}",
                "model": f"{want[tile, row, column]:x}",
            }
        )
    return result


def golden(folder: Path, file: Path) -> None:
    """A sample of the captured dot products, spread over all cases: (n, K) a and b, (n,) c, and each path's bits d."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for a, b in FORMATS:
        for launch in LAUNCHES:
            tiles = launch.operands(a, b)
            size = tiles.c.size
            tile, row, column = np.unravel_index((np.arange(GOLDEN[launch.name]) * size) // GOLDEN[launch.name], tiles.c.shape)
            row = (row + np.arange(len(row))) % tiles.a.shape[1]  # steps through the tiles alone would keep to few rows
            column = (column + np.arange(len(row)) // 3) % tiles.b.shape[1]
            name = f"{a}/{b}/{launch.name}"
            arrays[f"{name}/a"], arrays[f"{name}/b"] = tiles.a[tile, row], tiles.b[tile, column]
            if launch.with_c:
                arrays[f"{name}/c"] = tiles.c[tile, row, column].view(np.uint32)
            for path in paths():
                if path[1:3] == (a, b):
                    arrays[f"{name}/{path[0]}/{path[3]}"] = captured(folder, path, launch)[tile, row, column]
    with renamed_when_whole(file) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--golden", type=Path, metavar="FILE", help="write a sample of the dot products to this .npz")
    asked = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = "1"  # of every worker
    jobs = [(path, launch) for path in paths() for launch in LAUNCHES]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        done = list(pool.map(compared, *zip(*((asked.folder, *job) for job in jobs), strict=True)))
    for result in done:
        print(*result.path, result.launch, f"{result.mismatches} of {result.dots} differ", dict(result.by_case) or "")
    written = [
        {"path": list(r.path), "launch": r.launch, "dots": r.dots, "mismatches": r.mismatches, "by_case": r.by_case, "examples": r.examples}
        for r in done
    ]
    with renamed_when_whole(asked.folder / "compared.json") as part:
        part.write_text(json.dumps(written, indent=1) + "\n")
    if asked.golden:
        golden(asked.folder, asked.golden)


if __name__ == "__main__":
    main()
