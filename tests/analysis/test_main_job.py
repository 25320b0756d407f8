"""The main job on a tiny model: everything it promises is there, and a second time does nothing twice."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("transformers")

from analysis.configuration import Configuration
from analysis.errors import AnalysisError
from analysis.main_job import _distance, check_export, run, sweep_of
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
        ({"target": "quark"}, "'quark' cannot hold what export.method 'dmx' chooses from mxfp4_e2m1, mxfp8_e4m3, pairs of formats"),
    ],
)
def test_an_export_that_cannot_be_made_is_refused_before_anything_runs(
    inputs: Path, tmp_path: Path, export: dict[str, str], said: str
) -> None:
    with pytest.raises((AnalysisError, MxsimError), match=said):
        run(asked(inputs, tmp_path, export=export), lambda line: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"method": "uniform"}, False),  # all layers in MXFP4
        ({"formats": ["mxfp4_e2m1"]}, False),
        ({"formats": ["mxfp4_e2m1", "bf16"], "apart": False}, False),  # layers in bf16 stay out of the layout
        ({"formats": ["mxfp8_e4m3", "mxint8"], "method": "uniform"}, True),
        ({"formats": ["mxfp4_e2m1", "mxint8"], "target": "compressed-tensors"}, True),
        ({"formats": ["mxfp4_e2m1", "mxfp8_e4m3"], "target": "compressed-tensors"}, False),
    ],
)
def test_a_layout_is_refused_where_no_choice_of_the_method_fits(
    inputs: Path, tmp_path: Path, changes: dict[str, Any], is_refused: bool
) -> None:
    export = {"target": "quark", "golden": 0, **{key: changes.pop(key) for key in ("method", "target") if key in changes}}
    job = asked(inputs, tmp_path, export=export, **changes)
    with pytest.raises(AnalysisError, match=r"export\.target .* cannot hold what") if is_refused else nullcontext():
        check_export(job)


def without_golden(inputs: Path, out: Path) -> Configuration:
    """A job whose unit computes golden outputs of MXFP4, and of the INT8 beside it none: known when the search is done."""
    return asked(inputs, out, budgets=["bits=5"], methods=["dmx"], formats=["mxfp4_e2m1", "mxint8"])


def test_a_refused_export_leaves_the_page_with_its_reason(inputs: Path, tmp_path: Path) -> None:
    outcome = run(without_golden(inputs, tmp_path), lambda line: None)
    assert (outcome.export, outcome.is_valid) == (None, None)
    assert len(outcome.failed) == 1
    assert outcome.failed[0].startswith("export of dmx: nvidia_blackwell cannot compute these golden outputs")
    assert "failed: checkpoint: nvidia_blackwell cannot compute these golden outputs" in outcome.page.read_text(encoding="utf-8")
    assert (tmp_path / "fronts" / "points.csv").is_file()


def test_a_refused_export_leaves_the_one_before_it(inputs: Path, tmp_path: Path) -> None:
    job = asked(inputs, tmp_path, budgets=["bits=5"], methods=["dmx"])
    assert run(job, lambda line: None).is_valid
    files = [tmp_path / "assignment.json", *sorted((tmp_path / "checkpoint").iterdir())]
    before = {path: path.read_bytes() for path in files}
    assert run(without_golden(inputs, tmp_path), lambda line: None).failed
    assert {path: path.read_bytes() for path in files} == before
    assert run(job, lambda line: None).is_valid
    assert not list(tmp_path.glob(".checkpoint*"))


def test_the_page_is_of_the_text_asked_for(inputs: Path, tmp_path: Path) -> None:
    quick = {"budgets": ["bits=5"], "methods": ["uniform"], "export": None}
    for number in (1, 2):  # one of them has the record that comes last by name
        (tmp_path / f"text{number}.txt").write_text((inputs / "words.txt").read_text(encoding="utf-8") * number, encoding="utf-8")
    for number in (1, 2, 1):
        page = run(asked(inputs, tmp_path / "out", text=str(tmp_path / f"text{number}.txt"), **quick), lambda line: None).page
        assert f"evaluated on text{number}.txt" in page.read_text(encoding="utf-8")


def test_the_result_is_of_the_configuration_asked_for(inputs: Path, tmp_path: Path) -> None:
    quick = {"budgets": ["bits=5"], "methods": ["dmx", "kl"], "export": None}
    run(asked(inputs, tmp_path / "out", **quick | {"budgets": ["bits=5", "bits=6"]}), lambda line: None)
    changed = {**quick, "policy": "quark", "search": {"steps": 4, "refine": 2}}
    outcome = run(asked(inputs, tmp_path / "out", **changed), lambda line: None)
    assert outcome.headline.startswith("dMX at 5.0 bits ")
    summary = json.loads((tmp_path / "out" / "fronts" / "summary.json").read_text())
    assert summary["runs"] == 5
    note = "the folder holds 7 more runs, of other configurations: left out here; python -m analysis report draws all"
    assert note in summary["notes"]
    assert note in outcome.page.read_text(encoding="utf-8")


def test_a_share_of_bf16_s_bits_is_as_near_as_its_bits() -> None:
    def record(text: str, amount: float, **more: bool) -> dict[str, Any]:
        return {"specification": {"budget": {"kind": "bits", "text": text, "amount": amount, "is_share": False, **more}, "seed": 0}}

    records = [record("bits=4", 4.0), record("bits=0.3125x", 0.3125, is_share=True), record("bits=6", 6.0)]
    assert min(records, key=lambda one: _distance(one, 5.0)) is records[1]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"checkpoint/manifest.json": '{"mine": 1}', "checkpoint/weights.bin": "w"}, "is no export of ours"),
        ({"checkpoint/weights.bin": "w"}, "is no export of ours"),
        ({"checkpoint": "w"}, "is no folder"),
        ({"index.html": "<!doctype html><title>mine</title>"}, "is no page of ours"),
    ],
)
def test_what_no_job_wrote_is_left_alone(inputs: Path, tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(AnalysisError, match=said):
        run(asked(inputs, tmp_path), lambda line: None)
    left = {str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    assert left == files


def test_a_file_put_beside_an_export_is_not_removed_with_it(inputs: Path, tmp_path: Path) -> None:
    job = asked(inputs, tmp_path, budgets=["bits=5"], methods=["uniform"], export={"method": "uniform", "golden": 0})
    run(job, lambda line: None)
    (tmp_path / "checkpoint" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(AnalysisError, match=r"holds 'notes\.txt', which its export did not write"):
        run(job, lambda line: None)


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
