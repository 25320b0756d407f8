"""The cost plots show the report's own numbers, and the same content gives the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from analysis.plots.cost import roofline_plot, save, stacked_bytes, stacked_energy
from mxsim.costing import CostReport, cost


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
