"""Every example runs, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
#: example -> what it must say
SAYS = {
    "cost": "mxfp4_e2m1:",
    "export_and_validate": "one bit flipped: not valid",
    "quantise": "mxfp8_e4m3:",
    "search_and_evaluate": "dMX,",
    "unit_matmul": "nvidia_blackwell:",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    if "dmx" in example.read_text(encoding="utf-8"):
        pytest.importorskip("transformers")
    done = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert SAYS[example.stem] in done.stdout


def test_there_are_five() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAYS)
