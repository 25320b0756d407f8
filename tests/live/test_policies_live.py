"""Policies against the libraries they are named after, live: on random blocks that no golden file holds, and the golden files made again.

Each library wants an environment of its own (tests/golden/policies/README.md): MXSIM_ORACLES names a folder of them, each called as its
library. Without one, the library may lie beside mxsim itself; it is skipped by name where it does not.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mxsim.arrays import DTYPES
from tests.exactness import policies

pytestmark = pytest.mark.oracle

SEED = 77
MODULES = {
    "torchao": "torchao",
    "compressed-tensors": "compressed_tensors",
    "modelopt": "modelopt",
    "quark": "quark",
    "auto-round": "auto_round",
    "microxcaling": "mx",
}


def python_of(library: str) -> str:
    """The interpreter that has the library."""
    named = os.environ.get("MXSIM_ORACLES")
    if named and (python := Path(named) / library / "bin" / "python").exists():
        return str(python)
    if importlib.util.find_spec(MODULES[library]) is None:
        pytest.skip(f"{library} is not installed: see tests/golden/policies/README.md")
    return sys.executable


def made(library: str, folder: Path, seed: int | None) -> Path:
    """The folder of scripts with what the library makes of the committed inputs, or of a seed's."""
    python = python_of(library)
    shutil.copytree(policies.GOLDEN, folder, ignore=shutil.ignore_patterns(f"{library}.npz", "__pycache__"))
    commands = [[sys.executable, "inputs.py", str(seed)]] if seed is not None else []
    commands.append([python, f"make_{library.replace('-', '_')}.py"])
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("library", policies.LIBRARIES)
def test_blocks_that_no_golden_file_holds(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "GOLDEN", made(library, tmp_path / "made", SEED))
    policies.arrays_of.cache_clear()
    try:
        cases = policies.cases_of(library)
        assert cases
        for case in cases:
            for row in policies.case_comparisons(case):
                row.require_equal()
    finally:
        policies.arrays_of.cache_clear()


def nans_alike(name: str, bits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of a golden file's array that holds bits of values, every NaN made the same: which one comes out is the processor's choice."""
    if not name.endswith("/values"):
        return bits
    is_nan = np.isnan(bits.view(DTYPES[name.partition("/")[0]]).astype(np.float32))
    return np.where(is_nan, np.iinfo(bits.dtype).max, bits)


@pytest.mark.parametrize("library", policies.LIBRARIES)
def test_the_golden_file_is_what_the_library_makes(library: str, tmp_path: Path) -> None:
    folder = made(library, tmp_path / "made", None)
    with np.load(policies.GOLDEN / f"{library}.npz") as golden, np.load(folder / f"{library}.npz") as again:
        assert set(golden.files) == set(again.files)
        for name in golden.files:
            if name != "provenance":
                np.testing.assert_array_equal(nans_alike(name, again[name]), nans_alike(name, golden[name]), err_msg=name)
