"""A Pareto front: a quality against a cost, every series with its seeds' range, float and uniform formats as references."""

from __future__ import annotations

import itertools

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from analysis.labelling import place
from analysis.plots.style import RC, STYLES
from analysis.views import Line, View

_WIDTH, _HEIGHT = 7.2, 4.6  #: inches, of a figure whose legend stands beside the axes
_ROW, _SAMPLE, _LETTER = 0.18, 0.65, 0.062  #: inches of a legend: a row, the sample before its text, a letter
_SIZES = {"P": 7.0, "X": 6.5, "D": 5.0}  #: thin or wide markers, brought to the same weight


def front_plot(view: View, title: str) -> Figure:
    """One view. Filled markers: on the series' own front; pale ones: dominated. A bar: least to most over seeds."""
    with matplotlib.rc_context(RC):
        handles = [_handle(line) for line in view.lines]
        if view.uniform:
            style = STYLES["uniform"]
            handles.append(Line2D([], [], color=style.colour, marker=style.marker, linestyle="", label="one format everywhere"))
        if view.float_level is not None:
            handles.append(Line2D([], [], color=STYLES["float"].colour, dashes=STYLES["float"].dash, linewidth=1, label="float model"))
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        draw_front(axes, view)
        if handles:
            _legend(figure, handles, title)
        axes.set_title(title, loc="left")
        figure.draw_without_rendering()  # settles the layout, so that labels can be placed in pixels
        figure.set_layout_engine("none")
        _label(axes, view)
    return figure


def _legend(figure: Figure, handles: list[Line2D], title: str) -> None:
    """Beside the axes where it leaves room for the title and all its rows; else below, in a figure that grows with it."""
    entry = _SAMPLE + _LETTER * max(len(str(handle.get_label())) for handle in handles)
    if len(handles) * _ROW < _HEIGHT - 1 and entry + 1.2 * _LETTER * len(title) < _WIDTH - 0.6:
        figure.legend(handles=handles, loc="outside right upper", handlelength=3.4)
        return
    columns = 2 if 2 * entry <= 1.5 * _WIDTH else 1
    figure.set_size_inches(max(_WIDTH, columns * entry), _HEIGHT + _ROW * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside lower left", handlelength=3.4, ncols=columns)


def draw_front(axes: Axes, view: View) -> None:
    """The view's marks into axes."""
    if view.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    for line in reversed(view.lines):
        style, kept = line.style, line.front
        above = 4 if line.method == "dmx" else 3
        axes.plot(
            [mark.x for mark in kept],
            [mark.y for mark in kept],
            color=style.colour,
            linewidth=style.width,
            dashes=style.dash or (None, None),
        )
        several = [mark for mark in line.marks if mark.seeds > 1]
        ranges = [((mark.x, mark.y_low), (mark.x, mark.y_high)) for mark in several]
        ranges += [((mark.x_low, mark.y), (mark.x_high, mark.y)) for mark in several]
        axes.add_collection(LineCollection(ranges, colors=style.colour, linewidths=1))
        for on_front, alpha in ((False, 0.4), (True, 1.0)):
            marks = [mark for mark in line.marks if mark.on_front == on_front]
            axes.plot(
                [mark.x for mark in marks],
                [mark.y for mark in marks],
                marker=style.marker,
                linestyle="",
                color=style.colour,
                markerfacecolor="white" if style.hollow else style.colour,
                markeredgecolor=style.colour if style.hollow else "white",
                markeredgewidth=1.2 if style.hollow else 0.5,
                markersize=_SIZES.get(style.marker, 5.5),
                alpha=alpha,
                zorder=above,
            )
    for line in view.uniform:
        for mark in line.marks:
            axes.plot(mark.x, mark.y, marker=line.style.marker, color=line.style.colour, markersize=9, markeredgecolor="white", zorder=5)
    if view.float_level is not None:
        style = STYLES["float"]
        axes.axhline(view.float_level, color=style.colour, linewidth=style.width, dashes=style.dash, zorder=2)
    axes.set(xlabel=view.x_title, ylabel=view.y_title)
    if view.quality.chance is not None and axes.get_ylim()[0] < view.quality.chance:
        axes.axhline(view.quality.chance, color="#999999", linewidth=0.8, linestyle=":")
    axes.margins(x=0.06, y=0.08)


def _handle(line: Line) -> Line2D:
    style = line.style
    return Line2D(
        [],
        [],
        color=style.colour,
        marker=style.marker,
        linewidth=style.width,
        dashes=style.dash or (None, None),
        markerfacecolor="white" if style.hollow else style.colour,
        markeredgecolor=style.colour if style.hollow else "white",
        label=line.label,
    )


def _label(axes: Axes, view: View) -> None:
    """Names the uniform formats, and the budgets of the first series, where there is room."""
    labelled = [mark for line in view.uniform for mark in line.marks]
    labelled += [mark for line in view.lines[:1] for mark in line.marks]
    pixels = [tuple(axes.transData.transform((mark.x, mark.y))) for mark in labelled]
    around = [tuple(axes.transData.transform((mark.x, mark.y))) for line in view.everything for mark in line.marks]
    segments = []
    for line in view.lines:
        path = [tuple(axes.transData.transform((mark.x, mark.y))) for mark in line.front]
        segments += list(itertools.pairwise(path))
    extent = axes.get_window_extent()
    if view.float_level is not None:
        level = axes.transData.transform((view.everything[0].marks[0].x, view.float_level))[1]
        segments.append(((extent.x0, level), (extent.x1, level)))
    points_to_pixels = axes.figure.dpi / 72
    size = 7.5
    sizes = [(0.62 * size * len(mark.label) * points_to_pixels, 1.15 * size * points_to_pixels) for mark in labelled]
    places = place(pixels, sizes, around, (extent.x0, extent.y0, extent.x1, extent.y1), gap=5.5 * points_to_pixels, segments=segments)
    for mark, (x, y), at in zip(labelled, pixels, places, strict=True):
        if at is not None:
            offset = ((at[0] - x) / points_to_pixels, (at[1] - y) / points_to_pixels)
            axes.annotate(
                mark.label,
                (mark.x, mark.y),
                offset,
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=size,
                color="#333333",
                zorder=6,
            )
