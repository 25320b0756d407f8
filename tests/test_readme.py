"""Every command and every line of Python in the README runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line[:2] == "$ "]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README speaks of."""
    random = np.random.default_rng(0)
    np.save(tmp_path / "weights.npy", random.standard_normal((64, 256)).astype(np.float32))
    np.save(tmp_path / "a.npy", random.standard_normal((16, 64)).astype(np.float16))
    np.save(tmp_path / "b.npy", random.standard_normal((64, 24)).astype(np.float16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) >= 3
    assert SNIPPETS


def test_commands(folder: Path) -> None:
    for command in COMMANDS:
        words = shlex.split(command)
        assert words[0] in ("mxsim", "dmx"), command
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout, command


def test_python(folder: Path) -> None:
    for snippet in SNIPPETS:
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
