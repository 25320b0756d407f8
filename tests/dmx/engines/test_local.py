"""Processes on this machine give the records that one process gives."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from dmx.engines import engine
from dmx.engines.local import processors
from dmx.errors import DmxError
from dmx.sweep import run_sweep
from mxsim.errors import MxsimError
from tests.dmx.small_sweeps import RUNS, small_sweep
from tests.dmx.test_sweep import results


def test_two_workers_give_the_records_of_one(llama_folder: Path, text_file: Path, tmp_path: Path) -> None:
    sweep = small_sweep(llama_folder, text_file)
    run_sweep(sweep, tmp_path / "one", progress=False)
    told = run_sweep(sweep, tmp_path / "two", workers=2, progress=False)
    assert told["done"] == RUNS
    assert results(tmp_path / "one") == results(tmp_path / "two")


def test_a_process_that_dies_takes_no_other_run_with_it(
    llama_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    sweep = small_sweep(llama_folder, text_file, methods=("uniform",))
    for name, wanted in (("once", 0), ("always", 1)):
        monkeypatch.setenv("DIES", name)
        monkeypatch.setattr("dmx.engines.local._work", dying)
        monkeypatch.setenv("DEATHS", str(deaths))
        told = run_sweep(sweep, tmp_path / name, workers=2, progress=False)
        assert (told["done"], len(told["failed"])) == (told["runs"] - wanted, wanted)
        assert all("uniform bits=6 seed 0: its process died" in failure for failure in told["failed"])


def dying(run: dict[str, Any], folder: str) -> dict[str, Any]:
    """A worker that is killed in the midst of a run: the first time only, or whenever it comes to it."""
    from dmx.engines import local

    asked = run["specification"]
    here = Path(os.environ["DEATHS"]) / "died"
    fatal = asked["method"] == "uniform" and asked["budget"] and asked["budget"]["text"] == "bits=6"
    if fatal and (os.environ["DIES"] == "always" or not here.exists()):
        here.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return local._work(run, folder)


def test_no_worker_and_unknown_engines_are_refused() -> None:
    with pytest.raises(DmxError, match="at least 1"):
        engine("local", workers=0)
    with pytest.raises((DmxError, MxsimError), match="slurm"):
        engine("slurm")


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DmxError, match=r"mxsim\[ray\]"):
        engine("ray")


def test_processors_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3} if process == 0 else set(), raising=False)
    assert processors() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert processors() == 5
