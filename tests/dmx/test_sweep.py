"""Sweeps: each run once, whatever happens in between."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch

import mxsim
from dmx import running
from dmx.budget import Scenario
from dmx.errors import DmxError
from dmx.records import Run
from dmx.running import record_of
from dmx.sweep import Sweep, records_of, run_sweep, runs_of
from mxsim.errors import MxsimError
from mxsim.workload import Phase
from tests.dmx.small_models import random_model, random_text, save
from tests.dmx.small_sweeps import RUNS, small_sweep

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def finished(llama_folder: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    sweep = small_sweep(llama_folder, text_file)
    assert run_sweep(sweep, folder, progress=False)["done"] == RUNS
    return sweep, folder


def test_what_is_asked_for_twice_is_one_run(llama_folder: Path, text_file: Path) -> None:
    twice = small_sweep(llama_folder, text_file, budgets=("bits=5", "bits=6", "bits=5.0"), seeds=(0, 0))
    assert [run.key for run in runs_of(twice)] == [run.key for run in runs_of(small_sweep(llama_folder, text_file))]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the runs that were done."""
    did: list[str] = []
    do = running._done

    def done(run: Run, folder: Path, progress: bool) -> dict[str, Any]:
        did.append(run.label)
        return do(run, folder, progress)

    monkeypatch.setattr(running, "_done", done)
    return did


def results(folder: Path) -> dict[str, Any]:
    """What records say, without clocks and commands."""
    found = {}
    for path in (folder / "records").glob("*.json"):
        record = json.loads(path.read_text())
        del record["environment"]
        record.pop("timing", None)
        if record.get("assignment") and record["assignment"].get("search"):
            record["assignment"]["search"].pop("seconds", None)
        found[path.name] = record
    return found


def test_records_hold_what_was_asked_and_found(finished: tuple[Sweep, Path]) -> None:
    sweep, folder = finished
    records = {(r["specification"]["method"], (r["specification"]["budget"] or {}).get("text")): r for r in records_of(sweep, folder)}
    assert {record["status"] for record in records.values()} == {"done"}
    assert records["float", None]["quality"]["kl_to_float"] == 0
    assert records["float", None]["achieved"]["bits"] == 16
    for budget in (5, 6):
        record = records["dmx", f"bits={budget}"]
        assert record["achieved"]["bits"] <= budget
        assert len(record["trajectory"]["loss"]) == 3
        assert record["assignment"]["layers"]
        assert record["quality"]["tokens"] == 2 * 31
    assert json.loads((folder / "sweep.json").read_text())["methods"] == ["uniform", "dmx"]


def test_a_second_time_does_nothing(finished: tuple[Sweep, Path], counted: list[str]) -> None:
    sweep, folder = finished
    told = run_sweep(sweep, folder, progress=False)
    assert counted == []
    assert (told["runs"], told["done_before"], told["done"]) == (RUNS, RUNS, 0)


def test_more_budgets_do_only_what_is_new(finished: tuple[Sweep, Path], counted: list[str], llama_folder: Path, text_file: Path) -> None:
    _, folder = finished
    more = small_sweep(llama_folder, text_file, budgets=("bits=5", "bits=5.5", "bits=6"))
    run_sweep(more, folder, progress=False)
    assert counted == ["uniform bits=5.5 seed 0", "dmx bits=5.5 seed 0"]
    assert len(records_of(more, folder)) == RUNS + 2


def test_a_failed_run_keeps_its_error_and_the_rest_goes_on(
    llama_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = small_sweep(llama_folder, text_file)
    search = running.search

    def failing(model: Any, budget: Any, **rest: Any) -> Any:
        if budget.text == "bits=5":
            raise ZeroDivisionError("as it happens")
        return search(model, budget, **rest)

    monkeypatch.setattr(running, "search", failing)
    told = run_sweep(sweep, tmp_path, progress=False)
    assert told["done"] == RUNS - 1
    assert told["failed"] == ["dmx bits=5 seed 0: as it happens"]
    (failed,) = [record for record in results(tmp_path).values() if record["status"] == "failed"]
    assert failed["error"]["type"] == "ZeroDivisionError"
    assert "failing" in failed["error"]["traceback"]
    monkeypatch.undo()
    again = run_sweep(sweep, tmp_path, progress=False)
    assert (again["done_before"], again["done"], again["failed"]) == (RUNS - 1, 1, [])


def test_killed_and_started_again_nothing_is_lost_or_done_twice(
    finished: tuple[Sweep, Path], llama_folder: Path, text_file: Path, tmp_path: Path, counted: list[str]
) -> None:
    words = [sys.executable, "-m", "tests.dmx.small_sweeps", str(llama_folder), str(text_file), str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        limit = time.monotonic() + 120
        while len(list(tmp_path.glob("records/*.json"))) < 3:
            assert process.poll() is None or list(tmp_path.glob("records/*.json"))
            assert time.monotonic() < limit
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    there = {path: path.read_bytes() for path in tmp_path.glob("records/*.json")}
    told = run_sweep(small_sweep(llama_folder, text_file), tmp_path, progress=False)
    assert told["done_before"] == len(there) >= 3
    assert len(counted) == told["done"] == RUNS - len(there)
    assert all(path.read_bytes() == content for path, content in there.items())
    sweep, folder = finished
    wanted = {run.key for run in runs_of(sweep)}
    assert results(tmp_path) == {n: r for n, r in results(folder).items() if r["key"] in wanted}


def test_methods_that_draw_nothing_run_once(llama_folder: Path, text_file: Path) -> None:
    runs = runs_of(small_sweep(llama_folder, text_file, seeds=(0, 1)))
    labels = [run.label for run in runs]
    assert len(set(labels)) == len(labels) == RUNS + 2
    assert not any(label.startswith("uniform") and label.endswith("seed 1") for label in labels)


def test_what_finds_its_scores_in_the_cache_comes_last(llama_folder: Path, text_file: Path) -> None:
    sweep = small_sweep(llama_folder, text_file, methods=("kl", "fisher", "kl_per_bit", "dmx"), budgets=("bits=5", "bits=6"), seeds=(0, 1))
    runs = [run for run in runs_of(sweep) if run.specification["budget"]]
    order = [(run.specification["method"], run.specification["budget"]["text"], run.specification["seed"]) for run in runs]
    first = [("kl", "bits=5"), ("fisher", "bits=5"), ("dmx", "bits=5"), ("dmx", "bits=6")]
    later = [("kl_per_bit", "bits=5"), ("kl", "bits=6"), ("fisher", "bits=6"), ("kl_per_bit", "bits=6")]
    assert order == [(*run, seed) for part in (first, later) for seed in (0, 1) for run in part]


def test_changed_settings_are_other_runs(llama_folder: Path, text_file: Path) -> None:
    keys = [{run.key for run in runs_of(small_sweep(llama_folder, text_file, **changed))} for changed in ({}, {"report_windows": 3})]
    assert not keys[0] & keys[1]


def test_bad_sweeps_are_refused_before_anything_runs(llama_folder: Path, text_file: Path, tmp_path: Path, counted: list[str]) -> None:
    with pytest.raises(DmxError, match="reachable range is 4 to 8"):
        run_sweep(small_sweep(llama_folder, text_file, budgets=("bits=5", "bits=3")), tmp_path, progress=False)
    with pytest.raises((DmxError, MxsimError), match="kll"):
        small_sweep(llama_folder, text_file, methods=("kll",))
    with pytest.raises(MxsimError, match="mxfp9"):
        Sweep(references=("mxfp9",))
    with pytest.raises(DmxError, match="at least one budget"):
        small_sweep(llama_folder, text_file, budgets=())
    with pytest.raises(DmxError, match="seed is a setting of the whole sweep"):
        small_sweep(llama_folder, text_file, search={"seed": 7})
    with pytest.raises(DmxError, match="seed is -1"):
        small_sweep(llama_folder, text_file, seeds=(-1,))
    with pytest.raises(DmxError, match="limit of 0 questions"):
        small_sweep(llama_folder, text_file, task_limit=0)
    with pytest.raises(DmxError, match="strength is nan"):
        small_sweep(llama_folder, text_file, search={"strength": float("nan")})
    bad: list[tuple[dict[str, Any], str]] = [
        ({"search_text": None}, "needs text to look at"),
        ({"report_windows": 0}, "0 windows"),
        ({"tasks": (str(tmp_path / "none.jsonl"),)}, "does not exist"),
        ({"scenario": Scenario(device="b200", phases=((Phase(kind="decode", context=99999), 1.0),))}, "99999"),
        ({"scenario": Scenario(device="b200", assume=("foo",))}, "foo"),
        ({"policy": "nosuch"}, "nosuch"),
        ({"methods": ("dmx_paper",), "policy": "modelopt"}, "bits slide by policy ocp alone"),
        ({"methods": ("dmx_paper",), "formats": ("mxfp4_e2m1", "mxint8")}, "do not pass through mxint8"),
    ]
    for changed, message in bad:
        with pytest.raises((DmxError, MxsimError), match=message):
            run_sweep(small_sweep(llama_folder, text_file, **changed), tmp_path / "out", progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(DmxError, match="results cannot go to"):
        run_sweep(small_sweep(llama_folder, text_file), tmp_path / "file", progress=False)
    assert counted == []


def test_tasks_are_named_by_their_files_and_known_by_their_content(llama_folder: Path, text_file: Path, tmp_path: Path) -> None:
    question = {"query": "w1 w2", "choices": ["w3", "w4"], "gold": 1}
    task = tmp_path / "pairs.jsonl"
    task.write_text(json.dumps(question) + "\n")
    asked: dict[str, Any] = {"tasks": (str(task),), "methods": ("uniform",), "budgets": ("bits=5",)}
    sweep = small_sweep(llama_folder, text_file, **asked)
    run_sweep(sweep, tmp_path / "out", progress=False)
    found = records_of(sweep, tmp_path / "out")
    assert [record["status"] for record in found] == ["done"] * 4
    assert all(record["quality"]["tasks"]["pairs"]["questions"] == 1 for record in found)
    task.write_text(2 * (json.dumps(question) + "\n"))
    assert not {run.key for run in runs_of(sweep)} & {record["key"] for record in found}


@pytest.fixture
def own_inputs(text_file: Path, tmp_path: Path) -> tuple[Sweep, Path]:
    """A sweep of one method, and the folder of everything that it reads."""
    folder = tmp_path / "inputs"
    save(random_model("llama").to(torch.bfloat16).float(), folder / "model")
    shutil.copy(text_file, folder / "search.txt")
    (folder / "report.txt").write_text(random_text(seed=4))
    (folder / "pairs.jsonl").write_text(json.dumps({"query": "w1 w2", "choices": ["w3", "w4"], "gold": 1}) + "\n")
    shutil.copy(Path(mxsim.__file__).parent / "devices" / "b200.toml", folder / "mine.toml")
    asked: dict[str, Any] = {
        "report_text": str(folder / "report.txt"),
        "scenario": Scenario(device=str(folder / "mine.toml"), assume=("b200-fp4-half-fp8",)),
        "tasks": (str(folder / "pairs.jsonl"),),
        "methods": ("uniform",),
        "budgets": ("bits=5",),
        "references": (),
    }
    return small_sweep(folder / "model", folder / "search.txt", **asked), folder


CHANGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "weights": ("model", lambda path: save(random_model("llama", initializer_range=0.3), path), "model 'model'"),
    "what weights were stored in": ("model", lambda path: save(random_model("llama").to(torch.bfloat16), path), "model 'model'"),
    "search text": ("search.txt", lambda path: path.write_text(random_text(seed=5)), "the search's text"),
    "report text": ("report.txt", lambda path: path.write_text(random_text(seed=5)), "the report's text"),
    "task": ("pairs.jsonl", lambda path: path.write_text(2 * path.read_text()), "task 'pairs'"),
    "device": ("mine.toml", lambda path: path.write_text(path.read_text().replace("7.7e+12", "7e+12")), "device '.*mine.toml'"),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_run_on_other_inputs_than_its_own_fails(changed: str, own_inputs: tuple[Sweep, Path], tmp_path: Path) -> None:
    """And the next sweep in the same process sees what lies there now, not what it read before."""
    sweep, folder = own_inputs
    runs = runs_of(sweep)
    assert [record_of(run, tmp_path)["status"] for run in runs] == ["done"] * len(runs)
    name, change, told = CHANGES[changed]
    change(folder / name)
    for run in runs:
        record = record_of(run, tmp_path)
        assert record["status"] == "failed"
        assert re.match(f"{told} is not the one that the sweep was made for.*start a new sweep folder", record["error"]["message"])
    anew = runs_of(sweep)
    assert not {run.key for run in runs} & {run.key for run in anew}
    assert [record_of(run, tmp_path)["status"] for run in anew] == ["done"] * len(anew)
