"""What the table of an assignment says of its budgets and of the search that found it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.allocators import allocate
from dmx.budget import Budget, Scenario
from dmx.cli.allocation_table import assignment_table
from dmx.search_config import PRESETS
from dmx.searching import search
from mxsim.workload import Phase
from tests.dmx.cli.test_allocate_and_evaluate import run

if TYPE_CHECKING:
    from dmx.models import LoadedModel
    from dmx.text import TokenText

PLACE = Scenario(device="b200", phases=((Phase(context=16), 1.0),), assume=("b200-fp4-half-fp8",))


def rows(text: str) -> dict[str, str]:
    """First column -> last column."""
    lines = [line.rsplit("  ", 1) for line in text.splitlines() if "  " in line.strip()]
    return {line[0].strip(): line[1].strip() for line in lines}


def test_a_budget_is_told_by_the_reading_that_it_was_given_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], llama_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    call = ("search", llama_folder, "--budget", "bits=5.25", "--bits-scales", "in", "--bits-weighting", "size", "--steps", 2)
    assert run(monkeypatch, *call, "--text", text_file, "-o", tmp_path) == 0
    captured = capsys.readouterr()
    found = rows(captured.out)
    assert float(found["spent of bits=5.25 (scales in, weighted by size)"]) <= 5.25
    assert found["left of bits=5.25 (scales in, weighted by size)"].endswith("%")
    assert {"bits, scales out, plain mean", "bits, scales in, plain mean"} <= set(found)
    steps = re.findall(r"loss=[\d.]+, bits=([\d.]+), cost=([\d.]+)% of budget, temperature=[\d.]+", captured.err)
    assert len(steps) >= 2
    for bits, cost in steps:  # the bits that the budget counts
        assert float(bits) == pytest.approx(5.25 * float(cost) / 100, abs=0.02)
    assert "gradients along the ladder: " in captured.err
    assert "chance in next-token loss: " in captured.err


def test_the_plain_reading_is_told_too(llama: LoadedModel) -> None:
    found = allocate(llama, "uniform", "bits=8")
    told = rows(assignment_table(found))
    assert told["spent of bits=8 (scales out, plain mean)"] == "8"
    assert told["left of bits=8 (scales out, plain mean)"] == "0.000 %"


@pytest.mark.parametrize("method", ["first_last", "dmx"])
def test_each_of_several_budgets_is_told_in_its_own_unit(llama: LoadedModel, text: TokenText, method: str) -> None:
    budgets = [Budget.parse("bits=6.5", bits_scales="in"), Budget.parse("bytes=0.9x"), Budget.parse("latency=1", PLACE)]
    if method == "dmx":
        found = search(llama, budgets, text=text, steps=2, refine=0)
    else:
        found = allocate(llama, method, budgets)
    told = rows(assignment_table(found))
    assert float(told["spent of bits=6.5 (scales in, plain mean)"]) <= 6.5
    share = told["spent of bytes=0.9x"]
    assert share.endswith("x")
    assert float(share[:-1]) <= 0.9
    assert float(told["spent of latency=1, s"]) < 1
    assert float(told["left of latency=1"][:-1]) > 99


def test_the_loss_before_and_after_hardening_is_told(llama: LoadedModel, text: TokenText) -> None:
    stages = ("before hardening", "after hardening", "after repair", "after refinement")
    for refine, expected in ((2, stages), (0, stages[:-1])):
        found = search(llama, "bits=5", text=text, steps=2, refine=refine)
        told = rows(assignment_table(found))
        assert [name for name in told if name.startswith("loss ")] == [f"loss {stage}, nats a token" for stage in expected]
        for stage in expected:
            value = found.search[f"loss_{stage.replace(' ', '_')}"]
            assert told[f"loss {stage}, nats a token"] == f"{value:.6g}"
    assert "loss " not in assignment_table(allocate(llama, "uniform", "bits=5"))


def test_why_something_is_left_is_told(llama: LoadedModel, text: TokenText) -> None:
    assert "\nleft because every decision has its dearest pair" in assignment_table(allocate(llama, "uniform", "bits=12"))
    assert "\nleft because every decision has its dearest pair" in assignment_table(
        search(llama, "bits=4", text=text, formats=("mxfp4_e2m1",))
    )
    found = search(llama, "bits=5", text=text, steps=2, refine=0)
    assert f"\nleft because {found.search['left_because']}" in assignment_table(found)


def test_the_papers_way_says_that_it_spends_nothing_after_hardening(llama: LoadedModel, text: TokenText) -> None:
    found = search(llama, "bits=7.9", config=PRESETS["paper"], text=text, steps=2, batch_windows=2)
    assert found.search["left_of_budget"]["bits=7.9"] > 0.1
    assert "nothing is spent after hardening: repair and refinement are off" in found.search["left_because"]
    assert "without its learned rotations" in assignment_table(found)  # however the preset was asked for
