"""The main job on a tiny model: everything it promises is there, and a second time does nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("transformers")

from analysis.configuration import Configuration
from analysis.errors import AnalysisError
from analysis.main_job import run, sweep_of
from mxsim.errors import MxsimError


def asked(folder: Path, out: Path, **changes: object) -> Configuration:
    """A job of seconds."""
    return Configuration.model_validate(
        {
            "model": str(folder / "model"),
            "text": str(folder / "words.txt"),
            "budgets": ["bits=5", "bits=6"],
            "methods": ["uniform", "dmx"],
            "references": ["mxfp4_e2m1", "mxfp8_e4m3"],
            "tokens": 64,
            "report_windows": 2,
            "search": {"steps": 3, "refine": 2},
            "workers": {"count": 1},
            "output": str(out),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.dmx.small_models import random_model, random_text, save

    folder = tmp_path_factory.mktemp("job")
    save(random_model("llama"), folder / "model")
    (folder / "words.txt").write_text(random_text(), encoding="utf-8")
    return folder


def test_from_a_model_to_a_page(inputs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    outcome = run(asked(inputs, tmp_path), said.append)
    assert outcome.failed == ()
    assert outcome.is_valid is True
    assert outcome.headline.startswith("dMX at 5.0 bits ")
    assert outcome.page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert (tmp_path / "fronts" / "points.csv").is_file()
    assert list((tmp_path / "fronts").glob("front_*.svg"))
    assert (tmp_path / "checkpoint" / "golden.safetensors").is_file()
    assert json.loads((tmp_path / "assignment.json").read_text())["achieved"]["bits"] <= 5
    assert [line[0] for line in said if line[1:5] == " of "] == ["1", "2", "3", "4"]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "records").iterdir()}
    again = run(asked(inputs, tmp_path), said.append)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "records").iterdir()} == before
    assert again == outcome


def test_what_is_wrong_is_refused_before_anything_runs(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(MxsimError, match="stepps"):
        sweep_of(asked(inputs, tmp_path, search={"stepps": 3}))
    with pytest.raises(ValueError, match="kll"):
        sweep_of(asked(inputs, tmp_path, methods=["kll"]))


def test_no_run_finished_is_an_error(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no run finished"):
        run(asked(inputs, tmp_path, tasks=["no-such-task"]), lambda line: None)
