"""The cost plots show the report's own numbers, and the same content gives the same file."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from analysis.plots.cost import recorded_roofline, roofline_plot, save, stacked_bytes, stacked_energy
from analysis.plots.style import looks
from mxsim.costing import CostReport, cost
from mxsim.devices import load_device


@pytest.fixture(scope="module")
def reports() -> list[CostReport]:
    pairs = ("bf16", "mxfp4_e2m1")
    return [cost("stories260K", "b200", pair, batch=4, context=64, assume=["b200-fp4-half-fp8"]) for pair in pairs]


def test_stacks_add_up_to_the_report(reports: list[CostReport]) -> None:
    for figure, metric, unit in ((stacked_energy(reports), "energy_pj", 1e9), (stacked_bytes(reports), "dram_bytes", 1e6)):
        for axes, report in zip(figure.axes, reports, strict=True):
            multiplied = [layer.price.metrics[metric] or 0.0 for layer in report.layers if layer.matmul.macs]
            drawn = sum(bar.get_height() for stack in axes.containers for bar in stack)
            assert drawn == pytest.approx(sum(multiplied) / unit, rel=1e-9)
            assert axes.get_ylabel().split(", ")[1].startswith(("mJ", "MB"))


def test_the_legend_of_stacks_hides_no_bar(reports: list[CostReport]) -> None:
    figure = stacked_energy(reports)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["mac", "sram", "dram", "quantise", "static"]
    assert not any(legend.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_layers_lie_under_their_roof(reports: list[CostReport]) -> None:
    axes = roofline_plot(reports).axes[0]
    roofs = [line for line in axes.lines if len(line.get_xdata()) > 1]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert roofs
    assert points
    for point in points:
        assert point.get_ydata()[0] <= max(max(roof.get_ydata()) for roof in roofs)
    assert "FLOP" in axes.get_xlabel()


def test_the_same_content_gives_the_same_file(reports: list[CostReport], tmp_path: Path) -> None:
    for stem in ("one", "two"):
        save(stacked_bytes(reports), tmp_path / stem)
    for kind in ("svg", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


@pytest.mark.parametrize("device", ["b200", "gb200", "mi355x", "a100", "b300"])
def test_a_recorded_roofline_has_every_run_and_every_roof(device: str) -> None:
    labels = {f"u{index}": f"uniform {index}" for index in range(12)} | {"dmx": "dMX, bits=5"}
    rows = [{"key": key, "macs": 1e6, "dram_bytes": 1e6 * (index + 1), "latency_s": 1e-6} for index, key in enumerate(labels)]
    known = load_device(device)
    figure = recorded_roofline(pd.DataFrame(rows), labels, known, "title")
    assert figure is not None
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told[: len(labels)] == list(labels.values())
    paths = [path.name for path in known.paths if path.peak_flop_per_s]
    assert sorted(name for roof in told[len(labels) :] for name in roof.removesuffix(" roof").split(", ")) == sorted(paths)
    lines = figure.axes[0].lines
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == len(lines) == len(told)


def test_a_roofline_has_every_report() -> None:
    reports = [cost("stories260K", "b200", "bf16", batch=batch, context=64) for batch in range(1, 10)]
    axes = roofline_plot(reports).axes[0]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert len({(line.get_color(), line.get_markerfacecolor()) for line in points}) == len(reports)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()].count("bf16") == len(reports)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_looks_repeat_only_when_all_were_taken(size: int) -> None:
    first, second = list(range(size)), "abcdef"[:size]
    taken = list(itertools.islice(looks(first, second), size * size))
    assert taken[:size] == list(zip(first, second, strict=True))
    assert len(set(taken)) == size * size
