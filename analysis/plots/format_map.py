"""Format maps: which format each layer of each block has, a panel a budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analysis.frames import Frames
from analysis.names import element_bits, format_titles
from analysis.plots.style import RC, shade

MOST_PANELS = 9


def map_points(points: pd.DataFrame, frames: Frames, series: str) -> pd.DataFrame:
    """The points of a series whose assignment is kept, at most MOST_PANELS of them, evenly chosen, in the order of their budgets."""
    own = points[(points["series"] == series) & points["key"].isin(frames.layers["key"])]
    own = own.sort_values(["budget_kind", "budget_amount"], kind="stable")
    if len(own) > MOST_PANELS:
        own = own.iloc[[round(index * (len(own) - 1) / (MOST_PANELS - 1)) for index in range(MOST_PANELS)]]
    return own


def cells_of(frames: Frames, key: str) -> pd.DataFrame:
    """A row a block and role of one run: depth, role, and for weight and activation a mapping from format to how many of the cell's layers
    have it (several, where experts share a cell), fewest bits first."""
    cells: dict[tuple[int, str], dict[str, Counter[str]]] = {}
    for layer in frames.layers[frames.layers["key"] == key].itertuples():
        cell = cells.setdefault((layer.depth, layer.role), {"weight": Counter(), "activation": Counter()})
        cell[layer.operand][layer.format] += 1
    rows = [
        {"depth": depth, "role": role, **{operand: _by_bits(formats) for operand, formats in cell.items()}}
        for (depth, role), cell in sorted(cells.items(), key=lambda item: item[0][0])
    ]
    return pd.DataFrame(rows, columns=["depth", "role", "weight", "activation"])


def _by_bits(formats: Mapping[str, int]) -> dict[str, int]:
    return {name: formats[name] for name in sorted(formats, key=lambda name: (element_bits(name), name))}


def shares(formats: Mapping[str, int]) -> list[tuple[float, float]]:
    """(element bits, share of the layers), fewest bits first. Args: formats: format -> layers, as in cells_of."""
    counts: dict[float, int] = {}
    for name, layers in formats.items():
        counts[element_bits(name)] = counts.get(element_bits(name), 0) + layers
    return [(bits, layers / sum(counts.values())) for bits, layers in counts.items()]


def format_maps(points: pd.DataFrame, frames: Frames, series: str, title: str) -> Figure | None:
    """A panel a budget, roles down, blocks across; None where no assignment is kept.

    Cells that halve: weight above, activation below. Cells of several layers: a stripe a number of bits, as wide as its share.
    """
    own = map_points(points, frames, series)
    if not len(own):
        return None
    panels = [(row, cells_of(frames, row["key"])) for _, row in own.iterrows()]
    roles = list(dict.fromkeys(role for _, cells in panels for role in cells["role"]))
    depths = sorted({depth for _, cells in panels for depth in cells["depth"]})
    columns = min(3 if len(depths) <= 12 else 1, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(
            figsize=(1.2 + columns * max(1.6, 0.24 * len(depths)), 0.9 + rows * (0.62 + 0.2 * len(roles))),
            layout="constrained",
        )
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        drawn = [cell for _, cells in panels for cell in zip(cells["weight"].map(shares), cells["activation"].map(shares), strict=True)]
        told = "\ncell halves: weight above, activation below" if any(weight != activation for weight, activation in drawn) else ""
        if any(len(operand) > 1 for cell in drawn for operand in cell):
            told += f"{'; ' if told else chr(10)}stripes: the shares of a cell's layers"
        for axes, (point, cells) in zip(grid.flat, panels, strict=False):
            _panel(axes, cells, roles, depths)
            axes.set_title(f"{point['budget']}   ppl {point['perplexity']:.4g}", loc="left", fontsize=8.5)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("block")
        used = sorted(set(frames.layers[frames.layers["key"].isin(own["key"])]["format"]), key=element_bits)
        names = format_titles(used)
        handles = [Patch(facecolor=shade(element_bits(name))[0], edgecolor="#777777", label=names[name]) for name in used]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
        figure.suptitle(title + told, fontsize=10, x=0.01, ha="left")
    return figure


def _panel(axes: Axes, cells: pd.DataFrame, roles: list[str], depths: list[int]) -> None:
    for cell in cells.itertuples():
        x, y = depths.index(cell.depth), roles.index(cell.role)
        weight, activation = shares(cell.weight), shares(cell.activation)
        halves = [(weight, 0.0, 1.0)] if weight == activation else [(weight, 0.0, 0.5), (activation, 0.5, 0.5)]  # from above
        for stripes, down, height in halves:
            left, (fill, ink) = 0.0, shade(stripes[0][0])
            for bits, share in stripes if len(stripes) > 1 else ():
                axes.add_patch(Rectangle((x + left, y + down), share, height, facecolor=shade(bits)[0], linewidth=0))
                left += share
            axes.add_patch(Rectangle((x, y + down), 1, height, facecolor=fill, fill=len(stripes) == 1, edgecolor="white", linewidth=0.8))
            if len(depths) <= 16 and len(stripes) == 1:
                axes.text(x + 0.5, y + down + height / 2 + 0.03, f"{stripes[0][0]:.2g}", color=ink, ha="center", va="center", fontsize=6.5)
    axes.set(xlim=(0, len(depths)), ylim=(len(roles), 0))
    step = max(1, math.ceil(len(depths) / 16))
    axes.set_xticks([index + 0.5 for index in range(0, len(depths), step)], [str(depths[index]) for index in range(0, len(depths), step)])
    axes.set_yticks([index + 0.5 for index in range(len(roles))], roles)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
