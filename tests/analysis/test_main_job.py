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


@pytest.mark.parametrize(
    ("export", "said"),
    [
        ({"method": "nope"}, r"export.method 'nope' is none of the job's methods \(uniform, dmx\)"),
        ({"unit": "nvidia_hoper"}, "nvidia_hoper"),
        ({"unit": "nvidia_hopper_wgmma"}, "'nvidia_hopper_wgmma' computes golden outputs of no two of the job's formats"),
    ],
)
def test_an_export_that_cannot_be_made_is_refused_before_anything_runs(
    inputs: Path, tmp_path: Path, export: dict[str, str], said: str
) -> None:
    with pytest.raises((AnalysisError, MxsimError), match=said):
        run(asked(inputs, tmp_path, export=export), lambda line: None)
    assert not list(tmp_path.iterdir())


def test_a_refused_export_leaves_the_page_with_its_reason(inputs: Path, tmp_path: Path) -> None:
    mixed = {"method": "dmx", "target": "quark"}
    outcome = run(asked(inputs, tmp_path, budgets=["bits=5"], methods=["dmx"], export=mixed), lambda line: None)
    assert (outcome.export, outcome.is_valid) == (None, None)
    assert len(outcome.failed) == 1
    assert outcome.failed[0].startswith("export of dmx: quark cannot hold this assignment")
    assert "failed: checkpoint: quark cannot hold this assignment" in outcome.page.read_text(encoding="utf-8")
    assert (tmp_path / "fronts" / "points.csv").is_file()


def test_an_export_whose_runs_all_failed_leaves_the_page_with_its_reason(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dmx.sweep

    whole = dmx.sweep.records_of
    kept = ("float", "uniform")
    monkeypatch.setattr(dmx.sweep, "records_of", lambda *given: [r for r in whole(*given) if r["specification"]["method"] in kept])
    outcome = run(asked(inputs, tmp_path, budgets=["bits=5"]), lambda line: None)
    assert outcome.failed == ("export of dmx: no run of dmx finished: there is nothing to export",)
    assert "failed: checkpoint: no run of dmx finished" in outcome.page.read_text(encoding="utf-8")


def test_no_run_finished_is_an_error(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dmx.sweep

    monkeypatch.setattr(dmx.sweep, "run_sweep", lambda *given, **settings: {"failed": ["float: no room"]})
    with pytest.raises(AnalysisError, match="no run finished; the first error: float: no room"):
        run(asked(inputs, tmp_path), lambda line: None)
