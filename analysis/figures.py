"""Writes every table and figure of an analysis: csv, svg and png, under names that say what they show."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.experiments import Experiments
from analysis.names import COSTS, METHOD_TITLES, OWN_METHODS
from analysis.plots.cost import ENERGY_TERMS, recorded_roofline, recorded_stacks, save, stacked
from analysis.plots.format_map import format_maps
from analysis.plots.front import front_plot
from analysis.plots.hardware import hardware_plot
from analysis.plots.roles import roles_plot
from analysis.plots.trajectory import trajectory_plot
from analysis.representatives import compared_runs, device_of, step_of, trajectory_record
from analysis.summary import Analysis, budget_table, to_json
from analysis.written import whole

_FRONTS = rf"front_(perplexity|kl|.+_accuracy)_by_({'|'.join(cost.short for cost in COSTS)})"
_FIGURES = rf"{_FRONTS}|format_maps|roles|trajectory_({'|'.join(OWN_METHODS)})|cost_energy|roofline|hardware(_\d+)?"
#: every name that is written here
_OWN = re.compile(rf"(runs|points|hypervolume|dominance|losses|roles)\.csv|summary\.json|({_FIGURES})\.(svg|png)")


def write_tables(analysis: Analysis, folder: Path) -> list[Path]:
    """runs.csv, points.csv, hypervolume.csv, dominance.csv, losses.csv, roles.csv and summary.json; those without a row are left out.

    What an earlier run left under the names of tables and figures is removed, so that a folder holds one analysis: figures come after
    tables. Raises: AnalysisError where a file cannot be written.
    """
    _make(folder)
    tables = {
        "runs": analysis.frames.runs,
        "points": analysis.points,
        "hypervolume": analysis.hypervolumes,
        "dominance": analysis.dominance,
        "losses": budget_table(analysis).rename_axis("budget").reset_index(),
        "roles": analysis.roles,
    }
    written = []
    for name, table in tables.items():
        if len(table):
            written.append(folder / f"{name}.csv")
            with whole(written[-1]) as part:
                table.to_csv(part, index=False, float_format="%.10g", lineterminator="\n")
    written.append(folder / "summary.json")
    with whole(written[-1]) as part:
        part.write_text(json.dumps(to_json(analysis), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    remove_earlier(folder, {path.name for path in written})
    return written


def remove_earlier(folder: Path, written: Collection[str] = ()) -> None:
    """Take the tables and figures of an earlier analysis away, but for these."""
    for path in folder.iterdir():
        if _OWN.fullmatch(path.name) and path.name not in written and path.is_file():
            path.unlink()


def figures(analysis: Analysis, experiments: list[Experiments]) -> Iterator[tuple[str, Figure]]:
    """(name, figure) for everything that can be drawn, fronts first."""
    where = f"{analysis.model}, {analysis.text}"
    for view in analysis.views:
        yield f"front_{view.name}", front_plot(view, where)
    series = analysis.main_series
    if series is not None:
        maps = format_maps(analysis.points, analysis.frames, series, f"{series} on {where}: bits of each layer's format")
        if maps is not None:
            yield "format_maps", maps
        roles = roles_plot(analysis.roles, f"{series} on {where}")
        if roles is not None:
            yield "roles", roles
    for method in OWN_METHODS:
        record = trajectory_record(analysis, method)
        if record is not None:
            steps = analysis.frames.trajectories[analysis.frames.trajectories["key"] == record.key]
            budget = (record.specification.get("budget") or {}).get("text", "")
            drawn = trajectory_plot(record, steps, f"{METHOD_TITLES[method]}, {budget}, seed {record.specification.get('seed')}: {where}")
            if drawn is not None:
                yield f"trajectory_{method}", drawn
    labels = compared_runs(analysis)
    stacks, unit = recorded_stacks(analysis.frames.costs, labels)
    (device, _), told = device_of(analysis), step_of(analysis)
    if stacks:
        yield "cost_energy", stacked(stacks, ENERGY_TERMS, f"energy, {unit} a step", f"{analysis.model} on {told}")
    roofline = recorded_roofline(analysis.frames.costs, labels, device, f"{analysis.model} on {told}")
    if roofline is not None:
        yield "roofline", roofline
    for index, one in enumerate(experiments):
        drawn = hardware_plot(one)
        if drawn is not None:
            yield f"hardware{f'_{index + 1}' if len(experiments) > 1 else ''}", drawn


def write_figures(analysis: Analysis, experiments: list[Experiments], folder: Path) -> Iterator[str]:
    """Each figure as svg and png, after the tables; yields its name once it is written. Raises: AnalysisError where it cannot be."""
    _make(folder)
    for name, figure in figures(analysis, experiments):
        save(figure, folder / name)
        yield name


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AnalysisError(f"{str(folder)!r} cannot be made: {error.strerror or error}; give another folder with -o") from error
