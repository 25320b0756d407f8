"""The headline and its sentences: signs, digits, and which series they are about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from analysis.page.charts import progress_chart
from analysis.plots.trajectory import trajectory_plot
from analysis.records import read_results
from analysis.representatives import trajectory_record
from analysis.roles import paper_claim
from analysis.summary import Comparison, analyse, digits_of, loses, sentences
from tests.analysis.make_records import write_folder
from tests.analysis.test_comparable import changed


def row(series: str, percent: float) -> pd.Series:
    return pd.Series({"series": series, "loss_percent": percent, "budget_kind": "bits", "budget_amount": 5.0, "budget": "bits=5"})


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        (1.94, 3.42, "dMX at 5.0 bits loses 1.9 % against 3.4 % for KL"),
        (-0.0123, 1.6, "dMX at 5.0 bits gains 0.01 % where KL loses 1.60 %"),
        (2.0, -21.9, "dMX at 5.0 bits loses 2.0 % where KL gains 21.9 %"),
        (-2.0, -1.0, "dMX at 5.0 bits gains 2.0 % where KL gains 1.0 %"),
        (0.0812, 0.0837, "dMX at 5.0 bits loses 0.081 % against 0.084 % for KL"),
        (1.0, 1.0, "dMX at 5.0 bits loses 1.0 %, exactly as KL does"),
        (0.0, 0.0, "dMX at 5.0 bits loses 0.0 %, exactly as KL does"),
        (1.0, 1.0 + 1e-9, "dMX at 5.0 bits loses 1.000000 %, the same as KL to 6 digits"),
        (0.02, 0.0, "dMX at 5.0 bits loses 0.02 % against 0.00 % for KL"),
    ],
)
def test_each_side_has_its_sign_and_digits_that_differ(mine: float, theirs: float, told: str) -> None:
    rival = row("KL", theirs)
    assert str(Comparison(mine=row("dMX", mine), rival=rival, best=rival)) == told


def test_a_small_loss_is_not_told_as_none() -> None:
    assert str(Comparison(mine=row("dMX", -0.004), rival=None, best=None)) == "dMX at 5.0 bits gains 0.004 % of perplexity"
    assert loses(-34.5, digits_of(-34.5)) == "gains 34.5 %"


@pytest.fixture
def in_bits(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "sweep", methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=1, blocks=2)


def test_sentences_say_gains_below_float(in_bits: Path) -> None:
    changed(in_bits, "", lambda record: record["quality"].update(perplexity=4.0), wanted=("uniform", "kl"))
    told = " ".join(sentences(analyse(read_results(in_bits))))
    assert "MXFP4 everywhere gains 42.9 %" in told
    assert "The best baseline at 5.0 bits is KL, which gains 42.86 %: " in told
    assert " percentage points better than dMX." in told
    assert "-" not in told.replace("-28", "").replace("first-order", "")


def test_budgets_in_bits_take_the_headline(in_bits: Path) -> None:
    write_folder(in_bits, methods=("dmx", "kl"), budgets=(4.0, 5.0, 6.0, 7.0), seeds=1, blocks=2, kind="energy", references=False)
    analysis = analyse(read_results(in_bits))
    assert analysis.main_series == "dMX (budgets in bits)"
    assert "at 5.0 bits" in analysis.headline


def test_a_share_of_bits_is_told_in_bits(in_bits: Path) -> None:
    before = analyse(read_results(in_bits)).headline

    def share(record: dict[str, Any]) -> None:
        budget = record["specification"]["budget"]
        if budget:
            budget |= {"amount": budget["amount"] / 16, "is_share": True, "text": f"bits={budget['amount'] / 16}x"}

    changed(in_bits, "", share, wanted=("kl",))
    assert analyse(read_results(in_bits)).headline == before
    changed(in_bits, "", share, wanted=("dmx",))
    analysis = analyse(read_results(in_bits))
    assert analysis.headline == before
    (bits, *_) = analysis.views
    assert [mark.label for mark in bits.lines[0].marks] == ["5", "6"]
    record = trajectory_record(analysis, "dmx")
    assert record is not None
    assert record.specification["budget"]["text"] == "bits=0.3125x"
    steps = analysis.frames.trajectories[analysis.frames.trajectories["key"] == record.key]
    figure = trajectory_plot(record, steps, "title")
    assert figure is not None
    assert list(figure.axes[-2].lines[1].get_ydata()) == [5.0, 5.0]
    drawn = progress_chart(record, steps, "bits", "average bits")
    least = min(float(one) for one in re.findall(r'text-anchor="end">([0-9.]+)<', drawn))
    assert least >= 4.8


def look(record: dict[str, Any], tokens: int) -> None:
    record["specification"]["settings"] |= {"tokens": tokens, "context": 256, "search_part": "all"}


def test_what_was_searched_on_other_text_is_named_and_not_compared(in_bits: Path) -> None:
    before = analyse(read_results(in_bits)).headline
    write_folder(in_bits, methods=("first_last",), budgets=(5.0, 6.0), blocks=2, references=False)
    changed(in_bits, "", lambda record: look(record, 4096))
    assert analyse(read_results(in_bits)).headline == before
    changed(in_bits, "", lambda record: look(record, 1024), wanted=("kl", "first_last", "uniform", "float"))
    analysis = analyse(read_results(in_bits))
    series = {"dMX (tokens 4096)", "KL (tokens 1024)", "first/last high"}
    assert series <= set(analysis.points["series"])
    assert "against" in analysis.headline
    assert analysis.headline.endswith("for first/last high")
    assert any("the headline compares dMX (tokens 4096) with none of KL (tokens 1024):" in note for note in analysis.notes)
    changed(in_bits, "9", lambda record: look(record, 4096), wanted=("kl",))
    assert analyse(read_results(in_bits)).headline == before.replace("dMX", "dMX (tokens 4096)").replace("KL", "KL (tokens 4096)")


def test_absent_roles_are_named_in_one_order() -> None:
    table = pd.DataFrame({"role": ["q_proj"], "share_high": [0.5], "lift": [1.0]})
    assert "no down_proj or v_proj, so" in paper_claim(table)
