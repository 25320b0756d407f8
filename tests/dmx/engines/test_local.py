"""Processes on this machine give the records that one process gives."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from dmx.engines import engine
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
