"""Plots of the experiments on the hardware's side show every unit by name, whatever is known of its energy."""

from __future__ import annotations

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from analysis.experiments import Experiments
from analysis.page.charts import hardware_chart
from analysis.plots.hardware import hardware_plot

UNITS = ("nvidia_volta", "nvidia_ampere", "nvidia_ada", "nvidia_hopper_wgmma", "nvidia_blackwell", "amd_cdna3")
VALUES = {"accumulator_bits": (12, 16, 24), "rounding": ("toward zero", "nearest even", "to odd"), "block_size": (8, 16, 32)}


def experiments(vary: str, energies: tuple[float, float, float] = (90.0, 95.0, 100.0)) -> Experiments:
    rows = [
        {"vary": vary, "value": value, "base": unit, "format": "fp16", "perplexity": 6.0 + index, "energy_pj": energy}
        for index, unit in enumerate(UNITS)
        for value, energy in zip(VALUES[vary], energies, strict=True)
    ]
    return Experiments(model="synthetic", text="synthetic", float_perplexity=5.0, energy_source="synthetic", points=pd.DataFrame(rows))


@pytest.mark.parametrize("vary", VALUES)
def test_every_unit_is_drawn_and_named(vary: str) -> None:
    chart = unescape(hardware_chart(experiments(vary), vary))
    seen = re.sub(r"<title>.*?</title>", "", chart, flags=re.DOTALL)
    samples = re.findall(r"<li><svg.*?</svg>(.*?)</li>", seen)
    assert samples == [f"{unit}, fp16" for unit in UNITS]
    drawn = re.findall(r'<li><svg[^>]*><g class="series" (style="[^"]*")>(.*?)</svg>', seen)
    assert len(set(drawn)) == len(UNITS)
    figure = hardware_plot(experiments(vary))
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"{unit}, fp16" for unit in UNITS]


@pytest.mark.parametrize("vary", ["accumulator_bits", "rounding"])
def test_energy_that_is_not_known_is_left_out(vary: str) -> None:
    missing = (90.0, 100.0, float("nan")) if vary == "accumulator_bits" else (float("nan"), 100.0, 90.0)
    chart = hardware_chart(experiments(vary, missing), vary)
    assert "nan" not in chart
    assert re.findall(r"modelled energy: ([^<]*)", chart)[:2] == (
        ["90.0 % of that at 16.0", "100.0 % of that at 16.0"]
        if vary == "accumulator_bits"
        else ["100.0 % of that at nearest even", "90.0 % of that at nearest even"]
    )
    figure = hardware_plot(experiments(vary, missing))
    assert figure is not None
    right = figure.axes[-1]
    assert right.get_ylabel().endswith(" known")
    assert np.isfinite(right.get_ylim()).all()
    assert np.nanmax(right.lines[0].get_ydata()) == 100.0


def test_no_energy_at_all_is_no_percentage() -> None:
    nothing = (float("nan"), float("nan"), 0.0)
    assert "%" not in hardware_chart(experiments("accumulator_bits", nothing), "accumulator_bits")
