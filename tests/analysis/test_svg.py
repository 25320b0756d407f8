"""Charts draw what has no logarithm at the low end of a logarithmic axis, and the page's JSON is JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

import pandas as pd

from analysis.page import page
from analysis.page.assignments import valid_json
from analysis.page.charts import progress_chart
from analysis.page.svg import Chart, Scale, spanned, tick_texts
from analysis.plots.front import front_plot
from analysis.plots.trajectory import LEAST_BITS, trajectory_plot
from analysis.records import read_results
from analysis.representatives import trajectory_record
from analysis.summary import analyse
from tests.analysis.make_records import write_folder


def test_a_logarithmic_span_leaves_out_what_has_no_logarithm() -> None:
    for values in ([0.0, 0.1, 1.0], [-1e-9, 0.1, 1.0], [math.nan, 0.1, 1.0, math.inf]):
        assert spanned(values, log=True) == spanned([0.1, 1.0], log=True)
    for nothing in ([], [0.0], [-1.0, math.nan]):
        low, high = spanned(nothing, log=True)
        assert 0 < low < high
    assert spanned([0.0, 1.0]) == (-0.06, 1.06)


@pytest.mark.parametrize(
    ("span", "told"),
    [
        ((4.99999, 5.0), ["4.99999", "4.999992", "4.999994", "4.999996", "4.999998", "5"]),
        ((4.999, 5.0015), ["4.999", "4.9995", "5", "5.0005", "5.001", "5.0015"]),
        ((0.0, 12.0), ["0", "2", "4", "6", "8", "10", "12"]),
        ((10000.0, 10500.0), ["10000", "10100", "10200", "10300", "10400", "10500"]),
    ],
)
def test_ticks_have_the_digits_of_their_step(span: tuple[float, float], told: list[str]) -> None:
    assert [text for _, text in tick_texts(Scale(*span, 0, 100).ticks(6))] == told


def test_bits_that_rounding_moves_are_a_level_line(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx",), budgets=(5.0,), seeds=1)
    analysis = analyse(read_results(folder))
    record = trajectory_record(analysis, "dmx")
    assert record is not None
    steps = pd.DataFrame({"step": range(20), "loss": 2.0, "bits": [5.0 - 1e-5 * (index % 2) for index in range(20)]})
    drawn = progress_chart(record, steps, "bits", "average bits")
    ticks = re.findall(r'text-anchor="end">([^<]+)<', drawn)
    assert ticks[0] == "4.96"
    assert len(set(ticks)) == len(ticks)
    figure = trajectory_plot(record, steps, "title")
    assert figure is not None
    bits = figure.axes[-2]
    figure.draw_without_rendering()
    low, high = bits.get_ylim()
    assert high - low == pytest.approx(LEAST_BITS)
    assert not any(axes.yaxis.get_offset_text().get_text() for axes in figure.axes)


@pytest.mark.parametrize("value", [0.0, -1e-9, -5.0])
def test_what_has_no_logarithm_stands_at_the_low_end(value: float) -> None:
    scale = Scale(0.1, 10.0, 300, 20, log=True)
    assert scale(value) == 300
    assert scale(10.0) == 20
    chart = Chart.framed(400, 300, (0, 1), spanned([value, 0.1, 10.0], log=True), "x", "y", log_y=True)
    assert "nan" not in chart.line([0, 1], [value, 1.0])


@pytest.mark.parametrize("low", [0.0, -1e-9])
def test_a_seed_at_no_divergence_is_drawn(low: float, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx",), budgets=(5.0, 6.0), seeds=3)
    lost = False
    for path in sorted((folder / "records").iterdir()):
        record = json.loads(path.read_text())
        specification = record["specification"]
        if specification["method"] == "dmx" and specification["budget"]["amount"] == 6.0 and not lost:
            record["quality"]["kl_to_float"], lost = low, True
        if specification["method"] == "uniform" and specification["formats"] == ["mxfp4_e2m1"]:
            record["quality"]["kl_to_float"] = 20.0
        path.write_text(json.dumps(record))
    analysis = analyse(read_results(folder))
    view = next(view for view in analysis.views if view.name == "kl_by_bits")
    assert view.log_y
    assert lost
    assert any(mark.y_low == low for line in view.lines for mark in line.marks)
    (drawn,) = re.findall(r'data-quality="kl" data-cost="bits">(.*?)</figure>', page(analysis, []), re.DOTALL)
    assert f"({low:.4g} to " in drawn
    assert front_plot(view, "title").axes[0].get_ylim()[0] > 0


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def test_the_page_s_json_is_json(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx",), budgets=(5.0,), seeds=1)
    for path in (folder / "records").iterdir():
        record = json.loads(path.read_text())
        if record["assignment"]:
            record["assignment"]["search"] |= {"loss": math.nan, "losses": [1.5, -math.inf]}
        path.write_text(json.dumps(record))
    sweep = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**sweep, "limit": math.inf}))
    text = page(analyse(read_results(folder)), [])
    (content,) = re.findall(r'<script type="application/json" id="assignments">(.*?)</script>', text, re.DOTALL)
    kept = json.loads(content, parse_constant=_refuse)
    assert {run["rest"]["search"]["loss"] for run in kept["runs"]} == {None}
    assert kept["runs"][0]["rest"]["search"]["losses"] == [1.5, None]
    assert "Infinity" not in text.split('id="provenance"')[1].split("<script")[0]


def test_finite_content_is_written_as_it_is() -> None:
    content = {"a": [1, 2.5, "NaN", None, True], "b": {"c": (1, 2)}}
    assert valid_json(content) == json.dumps(content, separators=(",", ":"))
    assert valid_json(content, indent=1) == json.dumps(content, indent=1)
