"""The headline and its sentences: signs, digits, and which series they are about."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("pandas")

from analysis.records import read_results
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


def test_absent_roles_are_named_in_one_order() -> None:
    table = pd.DataFrame({"role": ["q_proj"], "share_high": [0.5], "lift": [1.0]})
    assert "no down_proj or v_proj, so" in paper_claim(table)
