"""Where the bytes, the energy and the time of a model's layers go."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mxsim.costing import CostReport
from mxsim.devices import ComputePath
from mxsim.pricing import LayerCost

# Okabe and Ito's palette, which stays apart under every colour blindness
ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
ENERGY_TERMS = {"mac": BLUE, "sram": GREEN, "dram": ORANGE, "quantise": PURPLE, "static": "#999999"}
BYTE_TERMS = {
    "weight_bytes": BLUE,
    "activation_bytes": SKY,
    "output_bytes": GREEN,
    "kv_bytes": YELLOW,
    "quantise_bytes": PURPLE,
    "refetch_bytes": RED,
}
MARKERS = {"compute": "s", "memory": "o", "overhead": "^"}


def folded(report: CostReport) -> dict[str, list[LayerCost]]:
    """The layers by their name without the layer's number; what multiplies nothing is left out."""
    rows: dict[str, list[LayerCost]] = {}
    for layer in report.layers:
        if layer.matmul.macs:
            rows.setdefault(re.sub(r"^model\.layers\.\d+\.(self_attn|mlp)\.", "", layer.name), []).append(layer)
    return rows


def stacked_energy(reports: Sequence[CostReport]) -> Figure:
    """Energy by term, all layers of a name together, a panel a report. Terms that are not known are left out and named."""
    terms = list(ENERGY_TERMS)

    def values(layer: LayerCost) -> list[float]:
        return [(getattr(layer.price.energy, f"{term}_pj") or 0.0) / 1e9 for term in terms]

    return _stacked(reports, terms, list(ENERGY_TERMS.values()), values, "energy, mJ a step")


def stacked_bytes(reports: Sequence[CostReport]) -> Figure:
    """Off-chip bytes by term, all layers of a name together, a panel a report."""
    terms = list(BYTE_TERMS)

    def values(layer: LayerCost) -> list[float]:
        return [getattr(layer.price.traffic, term) / 1e6 for term in terms]

    labels = [term.removesuffix("_bytes") for term in terms]
    return _stacked(reports, labels, list(BYTE_TERMS.values()), values, "off-chip traffic, MB a step")


def _stacked(
    reports: Sequence[CostReport], labels: list[str], colours: list[str], values: Callable[[LayerCost], list[float]], unit: str
) -> Figure:
    figure = Figure(figsize=(9, 1 + 2.4 * len(reports)), layout="constrained")
    panels = figure.subplots(len(reports), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, report in zip(panels, reports, strict=True):
        rows = folded(report)
        amounts = np.array([[sum(column) for column in zip(*map(values, layers), strict=True)] for layers in rows.values()])
        bottom = np.zeros(len(rows))
        for label, colour, column in zip(labels, colours, amounts.T, strict=True):
            axes.bar(range(len(rows)), column, bottom=bottom, color=colour, label=label, edgecolor="white", linewidth=0.4)
            bottom += column
        unknown = "" if report.sum("energy_pj") is not None or "energy" not in unit else "  (terms without a figure left out)"
        axes.set_title(f"{report.label}{unknown}", loc="left", fontsize=9)
        axes.set_ylabel(unit, fontsize=8)
        axes.set_xticks(range(len(rows)), list(rows), rotation=30, ha="right", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=7, ncols=len(labels), frameon=False, loc="upper left")
    figure.suptitle(_title(reports[0]), fontsize=10)
    return figure


def roofline_plot(reports: Sequence[CostReport]) -> Figure:
    """Each layer's achieved rate over its arithmetic intensity, under the calibrated roofs of the paths that are taken.

    A marker's shape says what bounds the layer, its colour which report it is of.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    colours = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY]
    seen: dict[str, ComputePath] = {}
    low, high = np.inf, 0.0
    for report, colour in zip(reports, colours, strict=False):
        for layers in folded(report).values():
            layer = layers[0]
            time = layer.price.roofline
            if time is None:
                continue
            intensity = 2 * layer.matmul.macs / layer.price.traffic.dram_bytes
            low, high = min(low, intensity), max(high, intensity)
            axes.plot(
                intensity,
                2 * layer.matmul.macs / time.latency_s / 1e12,
                MARKERS[time.bound],
                color=colour,
                alpha=0.8,
                markeredgecolor="white",
            )
            seen[layer.price.path] = report.device.path(layer.price.path)
    bandwidth = reports[0].device.memory.bandwidth_bytes_per_s
    if bandwidth is not None:
        grid = np.geomspace(low / 3, max(high * 3, 3000), 200)
        for (name, path), style in zip(seen.items(), ("-", "--", ":", "-."), strict=False):
            if path.peak_flop_per_s is None:
                continue
            peak = path.peak_flop_per_s.value * (path.compute_efficiency.value if path.compute_efficiency else 1)
            rate = bandwidth.value * (path.memory_efficiency.value if path.memory_efficiency else 1)
            axes.plot(grid, np.minimum(peak, grid * rate) / 1e12, style, color="black", linewidth=1, label=f"{name} roof, calibrated")
    handles, _ = axes.get_legend_handles_labels()
    handles += [
        Line2D([], [], color=colour, marker="o", linestyle="", label=report.label) for report, colour in zip(reports, colours, strict=False)
    ]
    handles += [Line2D([], [], color="grey", marker=marker, linestyle="", label=f"{bound}-bound") for bound, marker in MARKERS.items()]
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="lower right")
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity, FLOP per off-chip byte", ylabel="achieved rate, TFLOP/s")
    axes.set_title(_title(reports[0]), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _title(report: CostReport) -> str:
    phase = report.workload.phase
    return f"{report.workload.shape.name} on {report.device.title}: {phase.kind}, batch {phase.batch}, context {phase.context}"


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("svg", "png")) -> None:
    """Write stem.svg and stem.png, the same bytes for the same content."""
    import matplotlib

    stem.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}
    with matplotlib.rc_context({"svg.hashsalt": "mxsim", "svg.fonttype": "none"}):
        for kind in kinds:
            figure.savefig(stem.with_suffix(f".{kind}"), dpi=150, metadata=metadata[kind])
