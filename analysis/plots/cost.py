"""Where the bytes, the energy and the time of a model's layers go."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.plots.style import BLUE, GREEN, ORANGE, PURPLE, RC, RED, SKY, TERM_STYLES, YELLOW, looks
from analysis.written import whole
from mxsim.costing import CostReport
from mxsim.devices import ComputePath, Device
from mxsim.pricing import LayerCost

ENERGY_TERMS = {term: style.colour for term, style in TERM_STYLES.items()}
BYTE_TERMS = {
    "weight_bytes": BLUE,
    "activation_bytes": SKY,
    "output_bytes": GREEN,
    "kv_bytes": YELLOW,
    "quantise_bytes": PURPLE,
    "refetch_bytes": RED,
}
MARKERS = {"compute": "s", "memory": "o", "overhead": "^"}
ROOFS = tuple(itertools.product(("black", "#8A8A8A", RED), ("-", "--", ":", "-.")))
POINTS = tuple(itertools.product((False, True), (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)))  #: is it hollow, and its colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One choice of formats: what each row of its layers costs, term by term."""

    label: str
    rows: Mapping[str, Sequence[float]]  #: row -> amounts, in the order of the figure's terms
    is_whole: bool = True  #: False: terms without a figure are left out


def folded(report: CostReport) -> dict[str, list[LayerCost]]:
    """The layers by their name without the layer's number; what multiplies nothing is left out."""
    rows: dict[str, list[LayerCost]] = {}
    for layer in report.layers:
        if layer.matmul.macs:
            rows.setdefault(re.sub(r"^model\.layers\.\d+\.(self_attn|mlp)\.", "", layer.name), []).append(layer)
    return rows


def stacked_energy(reports: Sequence[CostReport]) -> Figure:
    """Energy by term, all layers of a name together, a panel a report. Terms that are not known are left out and named."""

    def values(layer: LayerCost) -> list[float]:
        return [(getattr(layer.price.energy, f"{term}_pj") or 0.0) / 1e9 for term in ENERGY_TERMS]

    stacks = [_stack(report, values, is_whole=report.sum("energy_pj") is not None) for report in reports]
    return stacked(stacks, ENERGY_TERMS, "energy, mJ a step", _title(reports[0]))


def stacked_bytes(reports: Sequence[CostReport]) -> Figure:
    """Off-chip bytes by term, all layers of a name together, a panel a report."""

    def values(layer: LayerCost) -> list[float]:
        return [getattr(layer.price.traffic, term) / 1e6 for term in BYTE_TERMS]

    colours = {term.removesuffix("_bytes"): colour for term, colour in BYTE_TERMS.items()}
    return stacked([_stack(report, values) for report in reports], colours, "off-chip traffic, MB a step", _title(reports[0]))


def recorded_stacks(costs: pd.DataFrame, labels: Mapping[str, str]) -> tuple[list[Stack], str]:
    """Energy by term of recorded runs, layers of a role together, and its unit; no stacks where no energy is known.

    Args: costs: Frames.costs.  labels: run's key -> label.
    """
    terms = [f"term:{term}" for term in ENERGY_TERMS]
    chosen = costs[costs["key"].isin(labels)].reindex(columns=["key", "role", *terms])
    if chosen[terms].isna().all(axis=None):
        return [], ""
    sums = chosen.groupby(["key", "role"], sort=False)[terms].sum()
    largest = float(sums.sum(axis=1).max())
    factor, unit = next(
        ((factor, unit) for factor, unit in ((1e-9, "mJ"), (1e-6, "µJ"), (1e-3, "nJ")) if largest * factor >= 1), (1.0, "pJ")
    )
    stacks = []
    for key, label in labels.items():
        if key in sums.index.get_level_values("key"):
            own = sums.loc[key] * factor
            needed = [term for term in terms if not costs[term].isna().all()] if set(terms) <= set(costs) else terms
            whole = not costs[costs["key"] == key].reindex(columns=needed).isna().any(axis=None)
            stacks.append(Stack(label=label, rows={str(role): [float(x) for x in row] for role, row in own.iterrows()}, is_whole=whole))
    return stacks, unit


def _stack(report: CostReport, values: Callable[[LayerCost], list[float]], *, is_whole: bool = True) -> Stack:
    rows = {name: [sum(column) for column in zip(*map(values, layers), strict=True)] for name, layers in folded(report).items()}
    return Stack(label=report.label, rows=rows, is_whole=is_whole)


def stacked(stacks: Sequence[Stack], terms: Mapping[str, str], unit: str, title: str) -> Figure:
    """A panel a stack, a bar a row, a colour a term. Args: terms: name -> colour.  unit: the ordinate's title."""
    with matplotlib.rc_context({**RC, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(9, 1.3 + 2.4 * len(stacks)), layout="constrained")
        panels = figure.subplots(len(stacks), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, stack in zip(panels, stacks, strict=True):
            amounts = np.array(list(stack.rows.values()))
            bottom = np.zeros(len(stack.rows))
            for (label, colour), column in zip(terms.items(), amounts.T, strict=True):
                axes.bar(range(len(stack.rows)), column, bottom=bottom, color=colour, label=label, edgecolor="white", linewidth=0.4)
                bottom += column
            unknown = "" if stack.is_whole else "  (terms without a figure left out)"
            axes.set_title(f"{stack.label}{unknown}", loc="left", fontsize=9)
            axes.set_ylabel(unit, fontsize=8)
            axes.set_xticks(range(len(stack.rows)), list(stack.rows), rotation=30, ha="right", fontsize=8)
        figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, ncols=len(terms), loc="outside lower center")
        figure.suptitle(title, fontsize=10)
    return figure


def roofline_plot(reports: Sequence[CostReport]) -> Figure:
    """Each layer's achieved rate over its arithmetic intensity, under the calibrated roofs of the paths that are taken.

    A marker's shape says what bounds the layer, its colour (hollow from the seventh on) which report it is of.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(8, 5.5), layout="constrained")
        axes = figure.add_subplot()
        inks = [
            {"color": colour, "markerfacecolor": "white" if hollow else colour, "markeredgecolor": colour if hollow else "white"}
            for _, (hollow, colour) in zip(reports, itertools.cycle(POINTS), strict=False)
        ]
        seen: dict[str, ComputePath] = {}
        low, high = np.inf, 0.0
        for report, ink in zip(reports, inks, strict=True):
            for layers in folded(report).values():
                layer = layers[0]
                time = layer.price.roofline
                if time is None:
                    continue
                intensity = 2 * layer.matmul.macs / layer.price.traffic.dram_bytes
                low, high = min(low, intensity), max(high, intensity)
                axes.plot(intensity, 2 * layer.matmul.macs / time.latency_s / 1e12, MARKERS[time.bound], alpha=0.8, **ink)
                seen[layer.price.path] = report.device.path(layer.price.path)
        bandwidth = reports[0].device.memory.bandwidth_bytes_per_s
        if bandwidth is not None:
            grid = np.geomspace(low / 3, max(high * 3, 3000), 200)
            for (name, path), (colour, dash) in zip(seen.items(), itertools.cycle(ROOFS), strict=False):
                if path.peak_flop_per_s is None:
                    continue
                peak = path.peak_flop_per_s.value * (path.compute_efficiency.value if path.compute_efficiency else 1)
                rate = bandwidth.value * (path.memory_efficiency.value if path.memory_efficiency else 1)
                axes.plot(grid, np.minimum(peak, grid * rate) / 1e12, dash, color=colour, linewidth=1, label=f"{name} roof, calibrated")
        handles, _ = axes.get_legend_handles_labels()
        handles += [
            Line2D([], [], color=ink["color"], markerfacecolor=ink["markerfacecolor"], marker="o", linestyle="", label=report.label)
            for report, ink in zip(reports, inks, strict=True)
        ]
        handles += [Line2D([], [], color="grey", marker=marker, linestyle="", label=f"{bound}-bound") for bound, marker in MARKERS.items()]
        axes.legend(handles=handles, fontsize=7, loc="lower right")
        _logarithmic(axes)
        axes.set(xlabel="arithmetic intensity, FLOP per off-chip byte", ylabel="achieved rate, TFLOP/s")
        axes.set_title(_title(reports[0]), fontsize=10)
    return figure


def _logarithmic(axes: Axes) -> None:
    """Both axes logarithmic, their numbers plain text as all text of a figure is."""
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def recorded_roofline(costs: pd.DataFrame, labels: Mapping[str, str], device: Device | None, title: str) -> Figure | None:
    """The layers of recorded runs over their arithmetic intensity; None where no run has a latency.

    Args: costs: Frames.costs.  labels: run's key -> label.  device: whose peak rates and bandwidth are drawn as roofs, as its datasheet
        gives them; None draws none.
    """
    known = costs[costs["key"].isin(labels)].dropna(subset=["macs", "dram_bytes", "latency_s"])
    known = known[(known["macs"] > 0) & (known["latency_s"] > 0) & (known["dram_bytes"] > 0)]
    if not len(known):
        return None
    known = known.assign(intensity=2 * known["macs"] / known["dram_bytes"], rate=2 * known["macs"] / known["latency_s"] / 1e12)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        points = looks((BLUE, RED, "#333333", GREEN, ORANGE, PURPLE), "o^sDvP")
        for (key, label), (colour, marker) in zip(labels.items(), points, strict=False):
            own = known[known["key"] == key]
            axes.plot(own["intensity"], own["rate"], marker, color=colour, alpha=0.75, markeredgecolor="white", label=label)
        if device is not None and device.memory.bandwidth_bytes_per_s is not None:
            bandwidth = device.memory.bandwidth_bytes_per_s.value
            grid = np.geomspace(known["intensity"].min() / 3, max(known["intensity"].max() * 3, 3000), 200)
            paths_of: dict[float, list[str]] = {}  # one line for paths of the same peak: it would cover the others
            for path in device.paths:
                if path.peak_flop_per_s is not None:
                    paths_of.setdefault(path.peak_flop_per_s.value, []).append(path.name)
            for (peak, names), (colour, dash) in zip(paths_of.items(), itertools.cycle(ROOFS), strict=False):
                roof = np.minimum(peak, grid * bandwidth) / 1e12
                axes.plot(grid, roof, dash, color=colour, linewidth=1, label=f"{', '.join(names)} roof")
        _logarithmic(axes)
        axes.set(xlabel="arithmetic intensity, FLOP per off-chip byte", ylabel="achieved rate, TFLOP/s")
        figure.legend(fontsize=7, loc="outside right upper")
        axes.set_title(title, fontsize=10)
    return figure


def _title(report: CostReport) -> str:
    phase = report.workload.phase
    return f"{report.workload.shape.name} on {report.device.title}: {phase.kind}, batch {phase.batch}, context {phase.context}"


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("svg", "png")) -> None:
    """Write stem.svg and stem.png, each whole or not at all: the same bytes for the same content. Raises: AnalysisError where it cannot."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}
    with matplotlib.rc_context({"svg.hashsalt": "mxsim", "svg.fonttype": "none"}):
        for kind in kinds:
            with whole(stem.with_name(f"{stem.name}.{kind}")) as part:
                figure.savefig(part, format=kind, dpi=150, metadata=metadata[kind])
