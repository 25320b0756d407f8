"""Rescored records: named as a sweep that reports on the whole text names its own."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.evaluation import report_text
from dmx.models import load_model
from dmx.records import Run
from dmx.sweep import Sweep, runs_of
from reports.rescore import whole, without_windows


def test_a_rescored_record_is_named_as_one_that_was_reported_on_the_whole_text() -> None:
    part, all_ = (runs_of(Sweep(methods=("kl",), budgets=("bits=5",), report_windows=windows))[-1] for windows in (2, None))
    text = report_text(load_model(None), None, context=part.specification["settings"]["context"])
    assert part.key != all_.key
    assert Run(specification=whole(part.specification, text), places={}).key == all_.key
    longer = report_text(load_model(None), None, context=text.windows.shape[1], tokens=2 * text.scored_tokens)
    assert Run(specification=whole(part.specification, longer), places={}).key not in (part.key, all_.key)


def test_the_command_is_that_of_a_sweep_without_its_windows() -> None:
    assert without_windows("dmx sweep m --report-windows 16 -o m") == "dmx sweep m -o m"
    assert without_windows("dmx sweep m -o m") == "dmx sweep m -o m"
