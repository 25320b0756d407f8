"""The command as a shell runs it: one line on stderr and an exit status, whatever the system refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

FULL = Path("/dev/full")


def mxsim(*arguments: str | Path, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mxsim", *map(str, arguments)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize("arguments", [("formats",), ("cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "bf16", "--json")])
def test_a_reader_who_has_gone_away_is_nothing_wrong(arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = mxsim(*arguments, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [("formats",), ("cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "bf16", "--json")])
def test_a_full_disk_under_stdout_is_one_line(arguments: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = mxsim(*arguments, stdout=full.fileno())
    assert (done.returncode, done.stderr) == (2, "mxsim: No space left on device\n")


def test_what_the_system_refuses_is_one_line_that_names_the_target(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((2, 32), np.float32))
    (tmp_path / "d.safetensors").mkdir()
    for target, says in (("d.safetensors", "is a folder"), ("n" * 300 + ".safetensors", ""), ("n" * 235 + ".safetensors", "is too long")):
        done = mxsim("quantize", tmp_path / "w.npy", "-f", "mxfp4_e2m1", "-o", tmp_path / target)
        assert done.returncode == 2
        assert done.stderr.startswith("mxsim: ")
        assert done.stderr.count("\n") == 1
        assert says in done.stderr
        assert target in done.stderr
        assert ".part" not in done.stderr


def test_names_outside_the_terminals_letters_are_escaped(tmp_path: Path) -> None:
    save_file({"gewicht\u00fc": np.ones((2, 32), np.float32)}, tmp_path / "m.safetensors")
    call = ("quantize", tmp_path / "m.safetensors", "-f", "mxfp4_e2m1", "-o", tmp_path / "q.safetensors")
    done = mxsim(*call, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "gewicht\\xfc" in done.stdout
