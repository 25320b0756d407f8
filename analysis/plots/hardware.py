"""What a bit of accumulator, of alignment or of scale buys: quality beside modelled energy, a panel a property."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.experiments import NAMED, VARIED, Experiments
from analysis.plots.style import BLUE, GREEN, ORANGE, PURPLE, RC, RED, looks

LEAST_SPAN = 4.0  #: of the energy's axis, percent
_COLOURS = (BLUE, RED, GREEN, PURPLE)
_SHAPES: tuple[tuple[str, tuple[int, ...]], ...] = (("o", ()), ("^", (4, 2)), ("D", (1, 1)), ("s", (6, 2, 1, 2)))  #: marker, dash


def hardware_plot(experiments: Experiments) -> Figure | None:
    """A panel a property: perplexity (left, solid) and energy (right, orange squares). None where nothing was varied."""
    varied = experiments.varied
    if not varied:
        return None
    columns = min(2, len(varied))
    rows = math.ceil(len(varied) / columns)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(0.6 + 4.3 * columns, 0.7 + 2.7 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, vary in zip(grid.flat, varied, strict=False):
            _panel(axes, experiments, vary)
        for axes in list(grid.flat)[len(varied) :]:
            axes.set_visible(False)
        energy = f"; energy: {experiments.energy_source}" if experiments.energy_source else ""
        told = textwrap.fill(f"{experiments.model}, {experiments.text}{energy}", 70 * columns)
        figure.suptitle(told, fontsize=8.5, x=0.01, ha="left")
    return figure


def _panel(axes: Axes, experiments: Experiments, vary: str) -> None:
    title, doubles = VARIED[vary]
    points = experiments.of(vary)
    names = list(dict.fromkeys(points["value"])) if vary in NAMED else []
    right: Axes | None = None
    is_whole = True
    series = points.groupby(["base", "format"], sort=False)
    for (colour, (marker, dash)), ((base, kind), own) in zip(looks(_COLOURS, _SHAPES), series, strict=False):
        x = np.array([names.index(value) for value in own["value"]] if names else own["value"], dtype=float)
        line: dict[str, Any] = {"linestyle": ""} if names else {"dashes": dash or (None, None)}
        axes.plot(x, own["perplexity"], marker=marker, color=colour, label=f"{base}, {kind}", zorder=3, **line)
        known = own[own["energy_pj"] > 0]["energy_pj"]
        if len(known):
            right = right or axes.twinx()
            is_whole &= len(known) == len(own)
            # relative, so that units and formats share one axis
            share = 100 * own["energy_pj"] / known.iloc[0 if names else -1]
            right.plot(x, share, marker="s", markersize=4, color=ORANGE, alpha=0.9, linewidth=1, **line)
    if not math.isnan(experiments.float_perplexity):
        axes.axhline(experiments.float_perplexity, color="#222222", dashes=(5, 3), linewidth=1)
    if names:
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif doubles:
        values = sorted(set(points["value"]))
        axes.set_xscale("log", base=2)
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    axes.set(xlabel=title, ylabel="perplexity")
    if right is not None:
        low, high = right.get_ylim()
        if high - low < LEAST_SPAN:  # or a thousandth would look like a slope
            right.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
        reference = f"the {'first' if names else 'last'}{'' if is_whole else ' known'}"
        right.set_ylabel(f"energy, % of {reference}", color="#8A5F00")
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
    axes.legend(fontsize=6.5, loc="best")
