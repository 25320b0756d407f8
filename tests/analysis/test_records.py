"""Records are read whole or said to be broken; nothing broken stops the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pandas")

from analysis.errors import AnalysisError, NothingToDrawError
from analysis.experiments import read_experiments
from analysis.frames import frames_of
from analysis.records import choose, part_of, read_results
from tests.analysis.make_records import write_folder, write_hardware


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "sweep", methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=2, blocks=2)


def records_of(folder: Path) -> list[Path]:
    return sorted((folder / "records").glob("*.json"))


def changed(path: Path, **parts: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


def test_every_record_is_read(small: Path) -> None:
    results = read_results(small)
    assert len(results.records) == len(records_of(small)) == 1 + 3 + 2 * 2 + 2
    assert not results.problems
    assert results.sweep is not None
    assert len(read_results(small / "records").records) == len(results.records)


def test_broken_records_are_named_and_the_rest_is_read(small: Path) -> None:
    half, empty, old, unknown, failed, shapeless = records_of(small)[:6]
    half.write_text(half.read_text()[:200])
    empty.write_text("")
    changed(old, schema=99)
    specification = json.loads(unknown.read_text())["specification"]
    changed(unknown, specification={**specification, "method": "guess"})
    changed(failed, status="failed", error={"type": "MemoryError", "message": "too large", "traceback": ""}, quality=None)
    shapeless.write_text("[]")
    (small / "records" / "later.json.tmp").write_text("{")
    results = read_results(small)
    reasons = {problem.path: str(problem) for problem in results.problems}
    assert "not whole JSON" in reasons[half]
    assert "cut off" in reasons[empty]
    assert "schema 99" in reasons[old]
    assert "unknown method 'guess'" in reasons[unknown]
    assert "MemoryError: too large" in reasons[failed]
    assert [problem.kind for problem in results.problems].count("failed") == 1
    assert "object is expected" in reasons[shapeless]
    assert len(results.records) == len(records_of(small)) - 6


def test_a_folder_without_records_is_said_to_be_one(tmp_path: Path, small: Path) -> None:
    with pytest.raises(AnalysisError, match="no folder"):
        read_results(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnalysisError, match="holds no record"):
        read_results(tmp_path / "empty")
    with pytest.raises(AnalysisError, match="is a file"):
        read_results(records_of(small)[0])


def test_only_failed_runs_is_nothing_to_draw(small: Path) -> None:
    for path in records_of(small):
        changed(path, status="failed", error={"type": "ValueError", "message": "no", "traceback": ""})
    with pytest.raises(NothingToDrawError, match="ValueError: no"):
        read_results(small)


def test_models_in_one_folder_are_told_apart(small: Path) -> None:
    write_folder(small, methods=("kl",), budgets=(5.0,), blocks=2, model="another")
    parts = choose(read_results(small))
    assert [part.models for part in parts] in ([("another",), ("synthetic-28",)], [("synthetic-28",), ("another",)])
    assert choose(read_results(small), model="another")[0].models == ("another",)
    with pytest.raises(AnalysisError, match="the folder has"):
        choose(read_results(small), model="third")


def test_the_part_of_given_runs_is_theirs_whatever_else_is_there(small: Path) -> None:
    asked = [path.stem for path in records_of(small)]
    write_folder(small, methods=("kl",), budgets=(5.0,), blocks=2, model="another")
    results = read_results(small)
    assert part_of(results, asked[:1]).models == ("synthetic-28",)
    assert len(part_of(results, asked).records) == len(asked)
    for keys, told in (([], "none of these runs"), ([path.stem for path in records_of(small)], "runs of 2 models or texts")):
        with pytest.raises(AnalysisError, match=told):
            part_of(results, keys)


def test_a_run_that_is_there_twice_counts_once(small: Path) -> None:
    path = records_of(small)[0]
    record = json.loads(path.read_text())
    record["specification"]["code"] = {"version": "other", "sha256": "f" * 64}
    (small / "records" / f"{'0' * 64}.json").write_text(json.dumps({**record, "key": "0" * 64}))
    frames = frames_of(read_results(small))
    assert len(frames.runs) == len(records_of(small)) - 1
    assert any("more than once" in note for note in frames.notes)


def test_series_name_what_differs(small: Path) -> None:
    write_folder(small, methods=("dmx",), budgets=(5.0,), seeds=1, blocks=2, references=False, formats=("mxfp4_e2m1", "mxfp6_e2m3"))
    frames = frames_of(read_results(small))
    assert {"dMX (MXFP4/MXFP8)", "dMX (MXFP4/MXFP6)", "KL (MXFP4/MXFP8)"} <= set(frames.runs["series"])
    assert {"uniform MXFP4", "float"} <= set(frames.runs["series"])


def test_costs_of_another_device_are_left_out_with_a_note(small: Path) -> None:
    path = next(path for path in records_of(small) if json.loads(path.read_text())["specification"]["method"] == "kl")
    record = json.loads(path.read_text())
    changed(path, costs={**record["costs"], "device": "h100"})
    frames = frames_of(read_results(small))
    assert any("h100" in note for note in frames.notes)
    run = frames.runs[frames.runs["key"] == record["key"]].iloc[0]
    assert str(run["energy_pj"]) == "nan"
    assert run["bits"] == record["achieved"]["bits"]


def test_a_quality_that_is_no_number_is_no_point(small: Path) -> None:
    path = next(path for path in records_of(small) if json.loads(path.read_text())["specification"]["method"] == "kl")
    changed(path, quality={"perplexity": float("inf"), "kl_to_float": None, "tasks": {}})
    frames = frames_of(read_results(small))
    assert any("no finite perplexity" in note for note in frames.notes)


def test_experiments_are_read_or_refused(small: Path) -> None:
    write_hardware(small)
    (experiments,), problems = read_experiments(small)
    assert not problems
    assert experiments.varied == ("accumulator_bits", "alignment_bits", "promotion_interval", "rounding", "scale_rule", "block_size")
    assert read_experiments(small, "another")[0] == []
    content = json.loads((small / "hardware.json").read_text())
    for index, (key, value, reason) in enumerate((("vary", "colour", "known are"), ("value", "wide", "a number is expected"))):
        broken = {**content, "experiments": [{**content["experiments"][0], key: value}]}
        (small / "hardware").mkdir(exist_ok=True)
        (small / "hardware" / f"{index}.json").write_text(json.dumps(broken))
        _, problems = read_experiments(small)
        assert reason in problems[index].reason
    huge = {**content, "experiments": [{**content["experiments"][0], "energy_pj": 10**400}]}
    (small / "hardware" / "0.json").write_text(json.dumps(huge))
    assert any(one.points["energy_pj"].isna().all() for one in read_experiments(small)[0])


def test_reading_and_drawing_never_import_torch() -> None:
    code = "import sys, analysis.figures, analysis.page, analysis.reading; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
