"""The page's charts: the views and tables that the figures show, as inline SVG in a wide and a narrow size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import pandas as pd

from analysis.experiments import NAMED, VARIED, Experiments
from analysis.frames import offsets_of
from analysis.labelling import place
from analysis.page.svg import Chart, Scale, ink, px, shape, spanned, tick_texts
from analysis.plots.cost import Stack
from analysis.plots.style import ROLE_STYLES, STYLES, Style, looks, role_style
from analysis.plots.trajectory import LEAST_BITS, distinct_operands
from analysis.records import Record
from analysis.roles import PAPER_HIGH
from analysis.scenarios import budget_amount
from analysis.views import Line, Mark, View

SIZES = (("wide", 900, 470), ("narrow", 360, 380))
MOST_STEPS = 60  #: of a trajectory's line


def front_chart(view: View, numbers: Mapping[str, int]) -> str:
    """A view in both sizes. Args: numbers: series -> what the legend's button calls it by."""
    return "".join(_front(view, numbers, size, width, height) for size, width, height in SIZES)


def _front(view: View, numbers: Mapping[str, int], size: str, width: int, height: int) -> str:
    marks = [mark for line in view.everything for mark in line.marks]
    xs = [edge for mark in marks for edge in (mark.x_low, mark.x_high)]
    ys = [edge for mark in marks for edge in (mark.y_low, mark.y_high)]
    level = view.float_level if not view.log_y or (view.float_level or 0) > 0 else None
    ys += [] if level is None else [level]
    chart = Chart.framed(
        width, height, spanned(xs, margin=0.07), spanned(ys, log=view.log_y, margin=0.08), view.x_title, view.y_title, log_y=view.log_y
    )
    if level is not None:
        chart.parts.append(chart.level(level, f"float {level:.4g}"))
    chance = view.quality.chance
    if chance is not None and min(chart.y.low, chart.y.high) < chance < max(chart.y.low, chart.y.high):
        chart.parts.append(chart.level(chance, "guessing", dash="1 4"))
    for line in reversed(view.lines):
        chart.parts.append(_series(chart, view, line, numbers[line.label]))
    for line in view.uniform:
        chart.parts.append(f'<g class="series uniform" {ink(line.style.colour, line.style.dark)}>')
        chart.parts += [chart.mark(mark.x, mark.y, line.style.marker, tip(view, line, mark), data=_data(mark)) for mark in line.marks]
        chart.parts.append("</g>")
    chart.parts += _labels(chart, view)
    return chart.text(f"{view.y_title} against {view.x_title}", size)


def _series(chart: Chart, view: View, line: Line, index: int) -> str:
    style = line.style
    parts = [f'<g class="series{" hollow" if style.hollow else ""}" data-series="{index}" {ink(style.colour, style.dark)}>']
    kept = line.front
    if len(kept) > 1:
        parts.append(chart.line([mark.x for mark in kept], [mark.y for mark in kept], dash=style.dash, width=style.width))
    for mark in line.marks:
        if mark.seeds > 1:
            across = f"M{px(chart.x(mark.x_low))} {px(chart.y(mark.y))}H{px(chart.x(mark.x_high))}" if mark.x_high > mark.x_low else ""
            bar = f"M{px(chart.x(mark.x))} {px(chart.y(mark.y_low))}V{px(chart.y(mark.y_high))}{across}"
            parts.append(f'<path class="range" d="{bar}"/>')
        kind = "" if mark.on_front else "dominated"
        parts.append(chart.mark(mark.x, mark.y, style.marker, tip(view, line, mark), kind=kind, data=_data(mark)))
    return "".join(parts) + "</g>"


def _data(mark: Mark) -> str:
    return f' data-key="{escape(mark.key, quote=True)}"'


def tip(view: View, line: Line, mark: Mark) -> str:
    """What hovering a point says, a fact a line."""
    counted = f"{mark.seeds} seeds" if mark.seeds == mark.runs else f"{mark.seeds} of {mark.runs} seeds"
    ranged = f" ({mark.y_low:.4g} to {mark.y_high:.4g} over {counted})" if mark.seeds > 1 else f" ({counted})" if mark.runs > 1 else ""
    lines = [f"{line.label}{', ' + mark.budget if mark.budget else ''}"]
    lines.append(f"{view.quality.axis()}: {mark.y:.5g}{ranged}")
    if view.float_level is not None and view.quality.column == "perplexity":
        lines.append(f"loss against float: {100 * (mark.y / view.float_level - 1):.2f} %")
    lines.append(f"{view.x_title}: {mark.x:.4g}")
    if not mark.on_front:
        lines.append("dominated by another point of its series")
    return "\n".join(lines)


def _labels(chart: Chart, view: View) -> list[str]:
    labelled = [mark for line in view.uniform for mark in line.marks] + [mark for line in view.lines[:1] for mark in line.marks]
    if not labelled:
        return []
    around = [(chart.x(mark.x), chart.y(mark.y)) for line in view.everything for mark in line.marks]
    segments = []
    for line in view.lines:
        path = [(chart.x(mark.x), chart.y(mark.y)) for mark in line.front]
        segments += list(itertools.pairwise(path))
    if view.float_level is not None:
        level = chart.y(view.float_level)
        segments.append(((chart.x.start, level), (chart.x.end, level)))
    bounds = (chart.x.start, chart.y.end - 8, chart.x.end + 10, chart.y.start)
    sizes = [(6.6 * len(mark.label), 13.0) for mark in labelled]
    places = place(
        [(chart.x(mark.x), chart.y(mark.y)) for mark in labelled], sizes, around, bounds, gap=6, segments=segments, downwards=True
    )
    return [
        f'<text class="label" x="{px(at[0])}" y="{px(at[1])}" dy=".35em" text-anchor="middle">{escape(mark.label)}</text>'
        for mark, at in zip(labelled, places, strict=True)
        if at is not None
    ]


def swatch(line: Line) -> str:
    """A legend's sample of a line and its marker."""
    return _sample(line.style, is_line=line.method != "uniform")


def _sample(style: Style, *, is_line: bool) -> str:
    stroke = f'<path class="line" d="M1 8H33" stroke-width="{style.width:g}"{_dash(style.dash)}/>' if is_line else ""
    kind = "series hollow" if style.hollow else "series"
    return _swatch(
        f'<g class="{kind}" {ink(style.colour, style.dark)}>{stroke}'
        f'<g class="mark" transform="translate(17 8)"><path d="{shape(style.marker)}"/></g></g>'
    )


def _swatch(content: str) -> str:
    return f'<svg class="swatch" width="34" height="16" viewBox="0 0 34 16" aria-hidden="true">{content}</svg>'


def float_swatch() -> str:
    style = STYLES["float"]
    return _swatch(f'<path class="level" d="M1 8H33"{_dash(style.dash)}/>')


def roles_chart(table: pd.DataFrame) -> str:
    """A bar a role: how often it stands above the lowest format."""
    return "".join(_roles(table, size, width) for size, width, _ in SIZES)


def _roles(table: pd.DataFrame, size: str, width: int) -> str:
    left, row, top = 92, 26, 8
    height = top + row * len(table) + 44
    x = Scale(0, 1, left, width - 56)
    chart = Chart(width, height, x, Scale(0, 1, height - 44, top))
    average = (table["share_high"] * table["cells"]).sum() / table["cells"].sum()
    apart = not table["share_high_weight"].equals(table["share_high_activation"])
    for index, line in enumerate(table.itertuples()):
        middle = top + row * (index + 0.5)
        told = f"{line.role}: {100 * line.share_high:.0f} % of {line.cells} cases"
        if apart:
            told += f"\nweights {100 * line.share_high_weight:.0f} %, activations {100 * line.share_high_activation:.0f} %"
        named = " claimed" if line.role in PAPER_HIGH else ""
        chart.parts.append(f'<text class="tick" x="{left - 8}" y="{px(middle)}" dy=".35em" text-anchor="end">{escape(line.role)}</text>')
        wide = px(max(x(line.share_high) - left, 0.5))
        bar = f'<rect x="{left}" y="{px(middle - 8)}" width="{wide}" height="16" rx="1.5"/>'
        chart.parts.append(f'<g class="bar{named}">{bar}<title>{escape(told)}</title></g>')
        after = x(line.share_high)
        if apart:
            for share, marker, kind in ((line.share_high_weight, "o", "weight"), (line.share_high_activation, "D", "activation")):
                chart.parts.append(
                    f'<g class="operand {kind}" transform="translate({px(x(share))} {px(middle)})"><path d="{shape(marker)}"/></g>'
                )
                after = max(after, x(share) + 5)
        chart.parts.append(f'<text class="value" x="{px(after + 7)}" y="{px(middle)}" dy=".35em">{100 * line.share_high:.0f} %</text>')
    at, bottom = px(x(average)), top + row * len(table)
    chart.parts.append(f'<path class="level" d="M{at} {top}V{bottom + 6}" stroke-dasharray="5 4"/>')
    chart.parts.append(f'<text class="note" x="{at}" y="{bottom + 20}" text-anchor="middle">all layers {100 * average:.0f} %</text>')
    return chart.text("How often each role is kept above the lowest format", size)


def trajectory_chart(record: Record, operand: str | None = None) -> str:
    """Each layer's offset over the steps, a colour a role."""
    offsets = offsets_of(record)
    if operand is not None:
        offsets = offsets[offsets["operand"] == operand]
    if not len(offsets):
        return ""
    roles = [role for role in ROLE_STYLES if role in set(offsets["role"])]
    roles += [role for role in dict.fromkeys(offsets["role"]) if role not in roles]
    styles = {role: role_style(role, index) for index, role in enumerate(roles)}
    parts = []
    for size, width, height in SIZES:
        span = (float(offsets["step"].min()), float(offsets["step"].max()))
        span = span if span[1] > span[0] else (span[0], span[0] + 1)
        chart = Chart.framed(
            width, height - 90 if size == "wide" else height - 60, span, spanned(list(offsets["offset"])), "step", "offset"
        )
        for role, style in styles.items():
            chart.parts.append(f'<g class="series thin" {ink(style.colour, style.dark)}>')
            for layer, line in offsets[offsets["role"] == role].groupby("layer", sort=False):
                step = max(1, math.ceil(len(line) / MOST_STEPS))
                kept = line.iloc[[*range(0, len(line) - 1, step), len(line) - 1]]
                path = chart.line(list(kept["step"]), list(kept["offset"]), dash=style.dash, width=1.1)
                chart.parts.append(f"<g>{path}<title>{escape(str(layer))}</title></g>")
            chart.parts.append("</g>")
        parts.append(chart.text("Offsets of the layers over the search's steps", size))
    legend = ""
    for role, style in styles.items():
        stroke = f'<path class="line" d="M1 8H33" stroke-width="2"{_dash(style.dash)}/>'
        sample = _swatch(f'<g class="series" {ink(style.colour, style.dark)}>{stroke}</g>')
        legend += f"<li>{sample}{escape(role)}</li>"
    return "".join(parts) + f'<ul class="legend">{legend}</ul>'


def _dash(dash: Sequence[int]) -> str:
    return f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""


def progress_chart(record: Record, steps: pd.DataFrame, column: str, title: str) -> str:
    """One of a search's curves over its steps."""
    if column not in steps or steps[column].isna().all() or len(steps) < 2:
        return ""
    known = steps.dropna(subset=[column])
    target = record.specification.get("budget") or {}
    level = budget_amount(target) if column == "bits" and target.get("kind") == "bits" else None
    values = list(known[column]) + ([level] if level is not None else [])
    span = spanned(values, least=LEAST_BITS if column == "bits" else 0.0)
    chart = Chart.framed(430, 230, (float(known["step"].min()), float(known["step"].max())), span, "step", title)
    step = max(1, math.ceil(len(known) / 200))
    kept = known.iloc[[*range(0, len(known) - 1, step), len(known) - 1]]
    style = STYLES["dmx"]
    if level is not None:
        chart.parts.append(chart.level(level, "budget"))
    chart.parts.append(
        f'<g class="series" {ink(style.colour, style.dark)}>{chart.line(list(kept["step"]), list(kept[column]), width=2)}</g>'
    )
    return chart.text(f"{title} over the search's steps", "half")


def operand_choices(record: Record) -> list[str]:
    return distinct_operands(offsets_of(record))


def cost_chart(stacks: Sequence[Stack], terms: Mapping[str, Style], unit: str) -> str:
    """A bar a choice, a colour a term, grouped by role."""
    rows = list(dict.fromkeys(row for stack in stacks for row in stack.rows))
    used = [index for index, _ in enumerate(terms) if any(stack.rows[row][index] > 0 for stack in stacks for row in stack.rows)]
    names, inks = list(terms), [ink(style.colour, style.dark) for style in terms.values()]
    largest = max((sum(amounts) for stack in stacks for amounts in stack.rows.values()), default=1.0)
    parts = []
    for size, width, _ in SIZES:
        left, bar, gap, top = (92, 13, 16, 6) if size == "wide" else (82, 10, 14, 6)
        group = bar * len(stacks) + gap
        height = top + group * len(rows) + 40
        x = Scale(0, largest, left, width - (130 if size == "wide" else 20))
        chart = Chart(width, height, x, Scale(0, 1, height - 40, top))
        bottom = top + group * len(rows)
        for value, text in tick_texts(x.ticks(3 if size == "narrow" else 6)):
            chart.parts.append(f'<path class="grid" d="M{px(x(value))} {top}V{bottom}"/>')
            chart.parts.append(f'<text class="tick" x="{px(x(value))}" y="{bottom + 15}" text-anchor="middle">{text}</text>')
        chart.parts.append(f'<text class="axis" x="{width - 20}" y="{height - 6}" text-anchor="end">energy per step, {escape(unit)}</text>')
        for i, row in enumerate(rows):
            y = top + group * i
            chart.parts.append(
                f'<text class="tick" x="{left - 8}" y="{px(y + bar * len(stacks) / 2)}" dy=".35em" text-anchor="end">{escape(row)}</text>'
            )
            for j, stack in enumerate(stacks):
                at = 0.0
                amounts = stack.rows.get(row, ())
                told = f"{stack.label}, {row}: {sum(amounts):.4g} {unit}\n" + ", ".join(
                    f"{names[k]} {amounts[k]:.3g}" for k in used if amounts
                )
                chart.parts.append('<g class="stack">')
                for k in used if amounts else ():
                    chart.parts.append(
                        f'<rect {inks[k]} x="{px(x(at))}" y="{px(y + j * bar)}" '
                        f'width="{px(max(x(at + amounts[k]) - x(at), 0))}" height="{bar - 2}"/>'
                    )
                    at += amounts[k]
                chart.parts.append(f"<title>{escape(told)}</title></g>")
                if size == "wide":
                    place = f'x="{px(x(at) + 5)}" y="{px(y + j * bar + bar / 2 - 1)}"'
                    chart.parts.append(f'<text class="value small" {place} dy=".35em">{escape(stack.label)}</text>')
        parts.append(chart.text("Energy of each role's layers, by term", size))
    legend = "".join(f'<li><span class="patch" {inks[k]}></span>{escape(names[k])}</li>' for k in used)
    order = f'<p class="caption narrow">In each group, from above: {escape(", ".join(stack.label for stack in stacks))}.</p>'
    return "".join(parts) + f'<ul class="legend">{legend}</ul>{order}'


def hardware_chart(experiments: Experiments, vary: str) -> str:
    """Perplexity over one property of the hardware; a percentage beside a point is its modelled energy."""
    title, doubles = VARIED[vary]
    points = experiments.of(vary)
    names = list(dict.fromkeys(points["value"])) if vary in NAMED else []
    xs = [float(names.index(value)) for value in points["value"]] if names else [float(value) for value in points["value"]]
    points = points.assign(x=xs)
    values = [*points["perplexity"], experiments.float_perplexity]
    ticks = [(float(i), str(name)) for i, name in enumerate(names)] if names else [(x, f"{x:g}") for x in sorted(set(xs))]
    if len(ticks) > 9 and not names:
        ticks = ticks[:: math.ceil(len(ticks) / 8)]
    x_span = (-0.5, len(names) - 0.5) if names else spanned(xs, log=doubles)
    known = [STYLES[name] for name in ("dmx", "kl", "first_order", "fisher")]
    styles = (replace(ink_of, marker=shape_of.marker, dash=shape_of.dash) for ink_of, shape_of in looks(known, known))
    legend = ""
    chart = Chart.framed(430, 270, x_span, spanned(values, margin=0.1), title, "perplexity", log_x=doubles, x_ticks=ticks)
    if not math.isnan(experiments.float_perplexity):
        chart.parts.append(chart.level(experiments.float_perplexity, "float"))
    for style, ((base, kind), own) in zip(styles, points.groupby(["base", "format"], sort=False), strict=False):
        own = own.dropna(subset=["perplexity"])
        legend += f"<li>{_sample(style, is_line=not names)}{escape(f'{base}, {kind}')}</li>"
        chart.parts.append(f'<g class="series" {ink(style.colour, style.dark)}>')
        if not names and len(own) > 1:
            chart.parts.append(chart.line(list(own["x"]), list(own["perplexity"]), dash=style.dash, width=1.8))
        priced = own[own["energy_pj"] > 0]
        reference = priced.iloc[0 if names else -1] if len(priced) else None
        for row in own.itertuples():
            told = f"{base}, {kind}\n{title}: {row.value}\nperplexity: {row.perplexity:.5g}"
            share = None if reference is None or math.isnan(row.energy_pj) else 100 * row.energy_pj / reference["energy_pj"]
            if reference is not None and share is not None:
                told += f"\nmodelled energy: {share:.1f} % of that at {reference['value']}"
            chart.parts.append(chart.mark(row.x, row.perplexity, style.marker, told))
            if share is not None:
                chart.parts.append(
                    f'<text class="note" x="{px(chart.x(row.x))}" y="{px(chart.y(row.perplexity) - 10)}" text-anchor="middle">'
                    f"{share:.0f}%</text>"
                )
        chart.parts.append("</g>")
    return chart.text(f"perplexity against {title}", "half") + f'<ul class="legend">{legend}</ul>'
