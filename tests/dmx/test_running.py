"""What a record says of the run that made it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("transformers")

from dmx import running
from dmx.errors import DmxError
from dmx.records import FAILED, Run, write_record
from dmx.running import check_finite, command_line, record_of

RUN = Run(specification={"method": "kl", "budget": None, "formats": ["mxfp4_e2m1"], "seed": 0}, places={})


@pytest.mark.parametrize(
    ("called", "module", "told"),
    [
        (["/somewhere/bin/dmx", "sweep", "--text", "my notes.txt"], None, "dmx sweep --text 'my notes.txt'"),
        (["/somewhere/analysis/__main__.py", "job"], "analysis.__main__", "python -m analysis job"),
        (["/somewhere/analysis/__main__.py", "job"], None, "python -m analysis job"),  # in a process that a sweep started
        (["/somewhere/reports/make_x.py", "-o", "x"], "reports.make_x", "python -m reports.make_x -o x"),
        (["mine.py"], None, "python mine.py"),
    ],
)
def test_a_command_can_be_given_again(called: list[str], module: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec(module, None) if module else None
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", called)
    assert command_line() == told


def test_a_result_that_is_no_number_is_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_done", lambda *given: {"achieved": {}, "quality": {"perplexity": float("inf")}})
    record = record_of(RUN, tmp_path)
    assert record["status"] == FAILED
    assert record["error"]["message"].startswith("quality.perplexity is inf")
    write_record(tmp_path, record)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_named_by_its_place(number: float) -> None:
    with pytest.raises(DmxError, match=r"quality\.tasks\[1\] is (nan|inf)"):
        check_finite({"quality": {"tasks": [0.5, number]}})
