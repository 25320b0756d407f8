"""What one front shows, apart from how it is drawn: matplotlib and the page take the same view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.frames import Frames
from analysis.names import COSTS, KL, PERPLEXITY, Metric, scaling
from analysis.pareto import front, sign
from analysis.plots.style import Style, styles_of

LOG_FROM = 12.0  #: an axis whose values span more than this factor is logarithmic


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One point: the median over seeds, and their range. In the axes' scaled units."""

    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float
    label: str  #: short, beside the point: "5.0"
    budget: str  #: as asked: "bits=5.0"
    seeds: int  #: that have this quality
    runs: int  #: seeds that finished
    key: str  #: the run that stands for it
    on_front: bool  #: of its own series


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series."""

    label: str
    method: str
    style: Style
    marks: tuple[Mark, ...]

    @property
    def front(self) -> tuple[Mark, ...]:
        return tuple(mark for mark in self.marks if mark.on_front)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One quality against one cost."""

    cost: Metric
    quality: Metric
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    uniform: tuple[Line, ...]  #: one point each
    float_level: float | None
    log_y: bool

    @property
    def name(self) -> str:
        return f"{self.quality.short}_by_{self.cost.short}"

    @property
    def everything(self) -> tuple[Line, ...]:
        return self.lines + self.uniform


def qualities_of(frames: Frames) -> tuple[Metric, ...]:
    """What can be an ordinate here."""
    return tuple(metric for metric in (PERPLEXITY, KL, *frames.tasks) if _has(frames, metric))


def costs_of(frames: Frames) -> tuple[Metric, ...]:
    """What can be an abscissa here."""
    return tuple(metric for metric in COSTS if _has(frames, metric))


def _has(frames: Frames, metric: Metric) -> bool:
    runs = frames.runs[frames.runs["method"] != "float"]
    return metric.column in runs and bool(runs[metric.column].notna().any())


def views(frames: Frames, points: pd.DataFrame, pairs: Sequence[tuple[Metric, Metric]] | None = None) -> list[View]:
    """A view for every (quality, cost) pair that has a point."""
    chosen = pairs or [(quality, cost) for quality in qualities_of(frames) for cost in costs_of(frames)]
    found = [view(frames, points, quality, cost) for quality, cost in chosen]
    return [one for one in found if one.lines or one.uniform]


def view(frames: Frames, points: pd.DataFrame, quality: Metric, cost: Metric) -> View:
    """One quality against one cost. Args: points: of pareto.points_table, with both columns."""
    usable = points.dropna(subset=[quality.column, cost.column])
    narrow = usable[usable["method"] != "float"]
    factor, prefix = scaling(cost, float(narrow[cost.column].max()) if len(narrow) else 1.0)
    styles = styles_of(zip(points["series"], points["method"], strict=True))
    lines: list[Line] = []
    uniform: list[Line] = []
    for series, group in narrow.groupby("series", sort=False):
        ordered = group.sort_values([cost.column, quality.column], kind="stable")
        on_front = front(np.column_stack([ordered[cost.column], sign(quality) * ordered[quality.column]]))
        marks = tuple(
            Mark(
                x=row[cost.column] * factor,
                x_low=row[f"{cost.column}:low"] * factor,
                x_high=row[f"{cost.column}:high"] * factor,
                y=row[quality.column],
                y_low=row[f"{quality.column}:low"],
                y_high=row[f"{quality.column}:high"],
                label=_short_budget(row) or str(series).removeprefix("uniform "),
                budget=row["budget"],
                seeds=int(row[f"{quality.column}:seeds"]),
                runs=int(row["seeds"]),
                key=row["key"],
                on_front=bool(kept),
            )
            for (_, row), kept in zip(ordered.iterrows(), on_front, strict=True)
        )
        method = str(group["method"].iloc[0])
        line = Line(label=str(series), method=method, style=styles[str(series)], marks=marks)
        (uniform if method == "uniform" else lines).append(line)
    wide = points[(points["method"] == "float") & points[quality.column].notna()] if quality.column in points else points.iloc[:0]
    level = float(wide[quality.column].iloc[0]) if len(wide) else None
    # a distance from float that float itself has none of is no line to draw
    level = None if quality is KL else level
    values = [mark.y for line in (*lines, *uniform) for mark in line.marks]
    log_y = bool(values) and min(values) > 0 and max(values) / min(values) > LOG_FROM
    return View(
        cost=cost,
        quality=quality,
        x_title=cost.axis(prefix, is_one_step=frames.is_one_step),
        y_title=quality.axis() + (" (log)" if log_y else ""),
        lines=tuple(lines),
        uniform=tuple(uniform),
        float_level=level,
        log_y=log_y,
    )


def _short_budget(row: pd.Series) -> str:
    amount = row["budget_amount"]
    if not isinstance(amount, float) or math.isnan(amount):
        return ""
    return f"{amount:g}" if row["budget_kind"] == "bits" else str(row["budget"]).partition("=")[2] or f"{amount:g}"
