"""Puts the page together: template, style and script in one file, every number from the analysis."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis.errors import AnalysisError
from analysis.experiments import Experiments
from analysis.names import COSTS, KL, METHOD_TITLES, OWN_METHODS, PERPLEXITY, REFERENCES, Metric, scaling
from analysis.page import charts
from analysis.page.assignments import format_key, map_cells, store, valid_json
from analysis.pareto import RESAMPLES
from analysis.plots.cost import recorded_stacks
from analysis.plots.format_map import cells_of, map_points
from analysis.plots.style import DARK_SHADES, FORMAT_SHADES, TERM_STYLES
from analysis.representatives import compared_runs, device_of, step_of, trajectory_record
from analysis.roles import paper_claim
from analysis.summary import Analysis, budget_table, comparison, sentences
from analysis.written import whole
from mxsim.version import VERSION

FOLDER = Path(__file__).parent
SHORT = {"bits": "bits", "bytes": "bytes", "energy": "energy", "latency": "latency", "perplexity": "Perplexity", "kl": "KL"}

#: what the axes of the hardware's charts do not say
MOVES_ALONG = (
    "Other properties can move along. Where reports/make_hardware.py made the points, a narrower accumulator is aligned less finely too "
    "(to two bits more than its fraction has), promotion and rounding are tried on such narrow accumulators, and scale rule and block size "
    "change the conversion alone: no unit computes there."
)


def write_page(analysis: Analysis, experiments: list[Experiments], path: Path) -> None:
    """Write the page, whole or not at all; its folder is made when missing. Raises: AnalysisError where it cannot be written."""
    content = page(analysis, experiments)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AnalysisError(f"{str(path)!r} cannot be written: {error.strerror or error}; give another place with -o") from error
    with whole(path) as part:
        part.write_text(content, encoding="utf-8")


def page(analysis: Analysis, experiments: list[Experiments]) -> str:
    """The page as text. The same analysis gives the same bytes."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["told"] = _told
    template = environment.from_string((FOLDER / "template.html").read_text(encoding="utf-8"))
    return template.render(context(analysis, experiments)) + "\n"


def _told(text: str) -> str:
    """Text whose numbers do not part from their unit at a line's end."""
    return re.sub(r"(?<=\d) (?=%|bits|nats)", "\u00a0", text)


def context(analysis: Analysis, experiments: list[Experiments]) -> dict[str, Any]:
    """Everything the template names."""
    kept = store(analysis)
    numbers = series_numbers(analysis)
    lines = {line.label: line for one in analysis.views for line in one.lines}
    device, setting = device_of(analysis)
    parts: dict[str, Any] = {
        "version": VERSION,
        "css": Markup(shades_css() + (FOLDER / "page.css").read_text(encoding="utf-8")),
        "js": Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
        "model": analysis.model,
        "text": analysis.text,
        "runs": len(analysis.frames.runs),
        "headline": analysis.headline,
        "tiles": tiles(analysis),
        "sentences": sentences(analysis),
        "notes": analysis.notes,
        "problems": [str(problem) for problem in analysis.problems],
        "views": [
            {"quality": one.quality.short, "cost": one.cost.short, "svg": Markup(charts.front_chart(one, numbers))}
            for one in analysis.views
        ],
        "qualities": _choices([one.quality for one in analysis.views]),
        "costs": _choices([one.cost for one in analysis.views]),
        "lines": [
            {"label": series, "number": numbers[series], "swatch": Markup(charts.swatch(lines[series]))}
            for series in numbers
            if series in lines
        ],
        "uniform_swatch": next((Markup(charts.swatch(line)) for one in analysis.views for line in one.uniform), ""),
        "float_swatch": Markup(charts.float_swatch()),
        "setting": setting if any(one.cost in COSTS[2:] for one in analysis.views) else "",
        "losses": losses(analysis),
        **areas(analysis),
        "dominance": dominance_table(analysis),
        "store": kept,
        "store_json": Markup(valid_json(kept).replace("<", "\\u003c")),
        "format_key": format_key(analysis.frames.layers),
        "map_key": format_key(_main_layers(analysis)),
        "apart": _apart(analysis),
        "is_striped": any(len(cell) > 5 for run in kept["runs"] for cell in run["cells"]),
        "maps": maps(analysis),
        "map_width": _map_width(analysis),
        "series": analysis.main_series,
        "roles": Markup(charts.roles_chart(analysis.roles)) if len(analysis.roles) else "",
        "roles_apart": len(analysis.roles) and not analysis.roles["share_high_weight"].equals(analysis.roles["share_high_activation"]),
        "claim": paper_claim(analysis.roles),
        "trajectories": trajectories(analysis),
        "cost": cost(analysis, step_of(analysis)),
        "hardware": hardware(experiments),
        "runs_table": runs_table(analysis),
        "provenance": provenance(analysis, setting),
        "mono": ("command", "code", "model bytes", "text bytes"),
        "figures": [
            {"name": name, "value": f"{figure.value:.6g}", "kind": figure.kind, "source": figure.source}
            for name, figure in device.figures()
        ]
        if device
        else [],
        "assumptions": [(one.name, one.says) for one in device.assumptions if one.name in device.accepted] if device else [],
        "asked": valid_json(analysis.results.sweep, indent=1) if analysis.results.sweep else "",
    }
    titles = (
        ("fronts", "Fronts", parts["views"]),
        ("budgets", "Budgets", parts["losses"]),
        ("hypervolume", "Hypervolume", parts["areas"]),
        ("assignment", "Assignment", kept["runs"]),
        ("maps", "Format maps", parts["maps"]),
        ("search", "Search", parts["trajectories"]),
        ("cost", "Cost", parts["cost"]),
        ("hardware", "Hardware", parts["hardware"]),
        ("runs", "All runs", True),
        ("provenance", "Provenance", True),
    )
    return {**parts, "sections": [(name, title) for name, title, there in titles if there]}


def shades_css() -> str:
    """The formats' shades as the variables --b4, --b6, ... of the style sheet."""
    light = " ".join(f"--b{bits}: {fill};" for bits, (fill, _) in FORMAT_SHADES.items())
    dark = " ".join(f"--b{bits}: {fill};" for bits, fill in DARK_SHADES.items())
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def series_numbers(analysis: Analysis) -> dict[str, int]:
    """A number for each series, the same in every view, though not every view has every series."""
    searched = analysis.points[~analysis.points["method"].isin(REFERENCES)]
    return {str(series): number for number, series in enumerate(dict.fromkeys(searched["series"]))}


def _choices(metrics: list[Metric]) -> list[tuple[str, str]]:
    titles = {metric.short: SHORT.get(metric.short, metric.title.removesuffix(" accuracy, %")) for metric in metrics}
    return list(titles.items())


def tiles(analysis: Analysis) -> list[dict[str, Any]]:
    """The numbers under the headline."""
    compared = comparison(analysis.points)
    found: list[dict[str, Any]] = []
    if compared is not None:
        shown = [compared.mine, compared.rival]
        if compared.best is not None and compared.rival is not None and compared.best["series"] != compared.rival["series"]:
            shown.append(compared.best)
        for index, point in enumerate(shown):
            if point is not None:
                best = ", best baseline" if index == 2 else ""
                says = f"lost by {point['series']} at {compared.budget}{best}"
                found.append({"value": f"{point['loss_percent']:.2f} %", "says": says, "mine": index == 0})
    uniform = analysis.points[(analysis.points["method"] == "uniform") & analysis.points["loss_percent"].notna()]
    for row in uniform.sort_values("bits_with_scales", kind="stable").itertuples():
        says = f"lost by {row.series.removeprefix('uniform ')} everywhere, {row.bits_with_scales:.4g} bits with scales"
        found.append({"value": f"{row.loss_percent:.2f} %", "says": says, "mine": False})
    wide = analysis.points[analysis.points["method"] == "float"]["perplexity"].dropna()
    if len(wide):
        found.append({"value": f"{wide.iloc[0]:.4g}", "says": "perplexity of the float model", "mine": False})
    return found


def losses(analysis: Analysis) -> dict[str, Any] | None:
    """Budget by series, percent lost."""
    table = budget_table(analysis)
    if not len(table) or table.isna().all(axis=None):
        return None
    rows = []
    for order, (budget, line) in enumerate(table.iterrows()):
        shown = [None if math.isnan(value) else round(value, 2) for value in line]
        least = min((value for value in shown if value is not None), default=None)
        cells = [
            {
                "v": "" if value is None else f"{exact:.6g}",
                "text": "" if value is None else f"{value:.2f}",
                "best": value is not None and value == least,
            }
            for value, exact in zip(shown, line, strict=True)
        ]
        rows.append({"budget": budget, "order": order, "cells": cells})
    return {"columns": list(table.columns), "rows": rows}


def areas(analysis: Analysis) -> dict[str, Any]:
    """Hypervolumes of perplexity against bits."""
    table = analysis.hypervolumes
    if len(table):
        table = table[(table["quality"] == PERPLEXITY.column) & (table["cost"] == COSTS[0].column)]
    if not len(table):
        return {"areas": [], "box": "", "corner": "", "resamples": RESAMPLES}
    rows = [
        {
            "series": row.series,
            "share": f"{row.share:.4f}",
            "v": f"{row.share:.8g}",
            "over_seeds": _interval(row.seeds_low, row.seeds_high),
            "seeds_v": "" if math.isnan(row.seeds_low) else f"{row.seeds_low:.8g}",
            "over_budgets": _interval(row.budgets_low, row.budgets_high),
            "budgets_v": "" if math.isnan(row.budgets_low) else f"{row.budgets_low:.8g}",
            "budgets": row.budgets,
            "seeds": row.seeds,
        }
        for row in table.sort_values("share", ascending=False, kind="stable").itertuples()
    ]
    first = table.iloc[0]
    corner = f"reference point {first['reference_cost']:.4g} bits, perplexity {first['reference_quality']:.4g}"
    return {"areas": rows, "box": first["box"], "corner": corner, "resamples": f"{RESAMPLES:,}"}


def _interval(low: float, high: float) -> str:
    return "\u2013" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


def dominance_table(analysis: Analysis) -> dict[str, Any] | None:
    """Who beats whom, perplexity."""
    table = analysis.dominance
    if not len(table):
        return None
    table = table[table["quality"] == PERPLEXITY.column].set_index(["series", "against"])
    names = list(dict.fromkeys(table.index.get_level_values("series")))
    rows = []
    for name in names:
        cells: list[dict[str, Any] | None] = []
        for other in names:
            one = table.loc[(name, other)] if name != other else None
            if one is None or not one["budgets"]:
                cells.append(None)
                continue
            told = f"better at {one['better']}, equal at {one['equal']}, worse at {one['worse']} of {one['budgets']} budgets"
            title = f"{name} against {other}: {told}"
            if one["clearly_better"]:
                title += f"; at {one['clearly_better']} its worst seed beats the other's best"
            cells.append(
                {"share": f"{one['share']:.3f}", "text": f"{one['better']}/{one['budgets']}", "equal": one["equal"], "title": title}
            )
        rows.append({"name": name, "cells": cells})
    return {"names": names, "rows": rows}


def _apart(analysis: Analysis) -> bool:
    layers = analysis.frames.layers
    return bool(len(layers)) and bool((layers.groupby(["key", "layer"])["format"].nunique() > 1).any())


def _main_layers(analysis: Analysis) -> pd.DataFrame:
    runs = analysis.frames.runs
    return analysis.frames.layers[analysis.frames.layers["key"].isin(runs[runs["series"] == analysis.main_series]["key"])]


def _map_width(analysis: Analysis) -> int:
    depths = analysis.frames.layers["depth"].nunique() if len(analysis.frames.layers) else 0
    return 480 if depths > 14 else 220 if depths > 6 else 155


def maps(analysis: Analysis) -> list[dict[str, Any]]:
    """The main series' format maps."""
    if analysis.main_series is None:
        return []
    found = []
    for _, point in map_points(analysis.points, analysis.frames, analysis.main_series).iterrows():
        cells = map_cells(cells_of(analysis.frames, point["key"]))
        by_place = {
            (role, depth): {"w": weight, "a": activation, "title": title, "background": "".join(striped)}
            for role, depth, weight, activation, title, *striped in cells
        }
        roles = list(dict.fromkeys(role for role, _ in by_place))
        depths = sorted({depth for _, depth in by_place})
        rows = [{"role": role, "cells": [by_place.get((role, depth)) for depth in depths]} for role in roles]
        found.append({"budget": point["budget"], "perplexity": f"{point['perplexity']:.4g}", "depths": depths, "rows": rows})
    return found


def trajectories(analysis: Analysis) -> list[dict[str, Any]]:
    """Each of our searches, at the headline's budget."""
    found = []
    for method in OWN_METHODS:
        record = trajectory_record(analysis, method)
        if record is None:
            continue
        steps = analysis.frames.trajectories[analysis.frames.trajectories["key"] == record.key]
        operands = charts.operand_choices(record)
        offsets = [{"svg": Markup(svg)} for svg in (charts.trajectory_chart(record, operand) for operand in operands) if svg]
        curves = (("bits", "average bits"), ("loss", "loss"))
        progress = [Markup(svg) for svg in (charts.progress_chart(record, steps, *curve) for curve in curves) if svg]
        told = ": weights, then activations" if len(operands) > 1 else ""
        budget = (record.specification.get("budget") or {}).get("text", "")
        title = f"{METHOD_TITLES[method]}, {budget}, seed {record.specification.get('seed')}: offset of each layer{told}"
        if offsets or progress:
            found.append({"title": title, "offsets": offsets, "progress": progress})
    return found


def cost(analysis: Analysis, setting: str) -> dict[str, Any] | None:
    """Energy by term, role by role, uniform formats beside the main series."""
    stacks, unit = recorded_stacks(analysis.frames.costs, compared_runs(analysis))
    if not stacks:
        return None
    whole = "" if all(stack.is_whole for stack in stacks) else " Terms without a figure are left out."
    caption = f"Modelled energy of a step on {setting}, layers of a role together.{whole}"
    return {"svg": Markup(charts.cost_chart(stacks, TERM_STYLES, unit)), "caption": caption}


def hardware(experiments: list[Experiments]) -> list[dict[str, Any]]:
    """A group of charts a file of experiments."""
    found = []
    for one in experiments:
        if one.varied:
            energy = f" Percentages: modelled energy ({one.energy_source})." if one.energy_source else ""
            caption = (
                f"{one.model} on {one.text}: perplexity, a panel a property, from the bases that the legend names. {MOVES_ALONG}{energy}"
            )
            found.append({"caption": caption, "charts": [Markup(charts.hardware_chart(one, vary)) for vary in one.varied]})
    return found


def runs_table(analysis: Analysis) -> dict[str, Any]:
    """Every finished run, every metric."""
    runs = analysis.frames.runs
    metrics = [
        metric for metric in (PERPLEXITY, KL, *analysis.frames.tasks, *COSTS) if metric.column in runs and runs[metric.column].notna().any()
    ]
    titles = {
        "bits_with_scales": "bits with scales",
        "kl_to_float": "KL, nats",
        "bytes": "bytes",
        "energy_pj": "energy",
        "latency_s": "latency",
    }
    columns = [{"title": title, "left": title != "seed"} for title in ("method", "formats", "budget", "seed")]
    columns.append({"title": "loss %", "left": False})
    scales: dict[str, tuple[float, str]] = {}
    for metric in metrics:
        scales[metric.column] = scaling(metric, float(runs[runs["method"] != "float"][metric.column].max()))
        unit = f", {scales[metric.column][1]}{metric.unit}" if metric.unit else ""
        columns.append({"title": f"{titles.get(metric.column, metric.title)}{unit}", "left": False})
    rows = []
    for _, run in runs.iterrows():
        cells = [{"v": text, "text": text, "left": True} for text in (run["series"], run["formats"].replace(",", ", "))]
        amount = run["budget_amount"]
        cells.append({"v": "" if math.isnan(amount) else f"{amount:.8g}", "text": run["budget"], "left": True})
        seed = "" if run["method"] in REFERENCES else str(run["seed"])
        cells.append({"v": seed, "text": seed, "left": False})
        for column, factor in (("loss_percent", 1.0), *((metric.column, scales[metric.column][0]) for metric in metrics)):
            value = run[column] * factor
            text = "" if math.isnan(value) else f"{value:.2f}" if column == "loss_percent" else f"{value:.5g}"
            cells.append({"v": "" if math.isnan(value) else f"{value:.8g}", "text": text, "left": False})
        rows.append({"key": run["key"], "cells": cells})
    return {"columns": columns, "rows": rows}


def provenance(analysis: Analysis, setting: str) -> list[tuple[str, str]]:
    """Versions, hashes, commands, scenario: every distinct value."""
    records = list(analysis.frames.records.values())

    def distinct(values: list[Any]) -> str:
        return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "", {}, [])))

    specifications = [record.specification for record in records]
    environments = [record.environment for record in records]
    text = [spec.get("text") or {} for spec in specifications]
    told = [
        ("model", f"{analysis.model} ({distinct([spec['model'].get('source') for spec in specifications])})"),
        ("model bytes", distinct([spec["model"].get("sha256") for spec in specifications])),
        ("report text", distinct([(one.get("report") or {}).get("name") for one in text])),
        ("text bytes", distinct([(one.get("report") or {}).get("sha256") for one in text])),
        (
            "search text",
            distinct(
                [f"{(one.get('search') or {}).get('name', '')} {(one.get('search') or {}).get('sha256', '')}".strip() for one in text]
            ),
        ),
        ("tokens", distinct([f"{record.quality['tokens']:,}" for record in records if isinstance(record.quality.get("tokens"), int)])),
        ("costs of", "" if setting == "no device" else setting),
        ("assumptions", distinct([name for record in records for name in record.scenario.get("assume") or ()])),
        (
            "code",
            distinct(
                [f"{(spec.get('code') or {}).get('version')} {(spec.get('code') or {}).get('sha256', '')}" for spec in specifications]
            ),
        ),
        ("mxsim", distinct([environment.get("mxsim") for environment in environments])),
        ("torch", distinct([environment.get("torch") for environment in environments])),
        ("transformers", distinct([environment.get("transformers") for environment in environments])),
        ("python", distinct([environment.get("python") for environment in environments])),
        ("platform", distinct([environment.get("platform") for environment in environments])),
        ("command", distinct([environment.get("command") for environment in environments])),
        ("search time", _seconds(analysis.frames.runs["seconds_search"])),
        ("evaluation time", _seconds(analysis.frames.runs["seconds_evaluate"])),
    ]
    return [(name, value) for name, value in told if value]


def _seconds(values: pd.Series) -> str:
    known = values.dropna()
    return f"{known.sum():.4g} s in all, {known.median():.3g} s a run" if len(known) else ""
