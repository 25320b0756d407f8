"""Records as tidy pandas frames: a row a run, a layer's operand, a layer's cost, a step.

A *series* is what a reader compares: a method with everything else that was chosen for it, budget and seed apart. Its label names only
what differs in this folder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.names import METHOD_ORDER, METHOD_TITLES, REFERENCES, Metric, element_bits, format_titles, task_metric
from analysis.records import Record, Results

ACHIEVED = ("bits", "bits_with_scales", "bytes", "energy_pj", "latency_s")
UNTOLD_SETTINGS = ("seed", "budget", "device", "threads", "scenario")  #: a series spans them, or they change no result


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """One subject's records as tables, and what had to be said on the way."""

    runs: pd.DataFrame  #: a row a finished run
    layers: pd.DataFrame  #: a row a run, layer and operand: format and element bits
    costs: pd.DataFrame  #: a row a run and layer
    trajectories: pd.DataFrame  #: a row a run and step
    tasks: tuple[Metric, ...]
    records: Mapping[str, Record]
    notes: tuple[str, ...] = ()


def frames_of(results: Results) -> Frames:
    """The tables of results of one model and one text.

    Several records of the same run (another code version, say) are taken down to the newest file, and a note says so.
    """
    notes: list[str] = []
    runs, kept = _runs(results, notes)
    records = {record.key: record for record in results.records if record.key in kept}
    chances = {name: task.get("chance") for record in records.values() for name, task in (record.quality.get("tasks") or {}).items()}
    return Frames(
        runs=runs,
        layers=_layers(records),
        costs=_costs(records),
        trajectories=_trajectories(records),
        tasks=tuple(task_metric(name, chance) for name, chance in sorted(chances.items())),
        records=records,
        notes=tuple(notes),
    )


def role_of(layer: str) -> str:
    """The layer's part in its block: down_proj of model.layers.3.mlp.down_proj."""
    return layer.rpartition(".")[2]


def depth_of(layer: str) -> int:
    """The block's number: 3 of model.layers.3.mlp.down_proj; -1 where a name has none."""
    found = re.search(r"\.(\d+)\.", layer)
    return int(found.group(1)) if found else -1


def _runs(results: Results, notes: list[str]) -> tuple[pd.DataFrame, set[str]]:
    labels = _series_labels(results.records)
    settings = [cost_setting(record) for record in results.records]
    known = pd.Series([setting for setting in settings if setting], dtype=object)
    usual = str(known.mode().iloc[0]) if len(known) else ""
    others = sorted(set(known) - {usual})
    if others:
        told = "; ".join(others)
        notes.append(f"energy and latency are of {usual}; those of {told} are not comparable with them and left out")
    rows: list[dict[str, Any]] = []
    for record, setting in zip(results.records, settings, strict=True):
        specification, achieved = record.specification, record.achieved
        budget = specification.get("budget") or {}
        row: dict[str, Any] = {
            "key": record.key,
            "method": record.method,
            "series": labels[record.key],
            "formats": ",".join(specification.get("formats") or ()),
            "policy": specification.get("policy"),
            "budget_kind": budget.get("kind", ""),
            "budget": str(budget.get("text") or ""),
            "budget_amount": _number(budget.get("amount")),
            "budget_id": _budget_id(budget),
            "seed": specification.get("seed"),
        }
        row |= {name: _number(achieved.get(name)) for name in ACHIEVED}
        if setting and setting != usual:
            row |= {"energy_pj": math.nan, "latency_s": math.nan}
        row |= {name: _number(record.quality.get(name)) for name in ("perplexity", "kl_to_float", "tokens")}
        for name, task in (record.quality.get("tasks") or {}).items():
            row[f"accuracy:{name}"] = 100 * _number(task.get("accuracy"))
            row[f"stderr:{name}"] = 100 * _number(task.get("stderr"))
        row |= {name: _number(record.timing.get(name)) for name in ("seconds_search", "seconds_evaluate")}
        row["written"] = record.path.stat().st_mtime if record.path.exists() else 0.0
        rows.append(row)
    runs = pd.DataFrame(rows)
    broken = runs[runs["perplexity"].isna()]
    if len(broken):
        notes.append(f"{len(broken)} finished runs have no finite perplexity: they stand in the table, not in the fronts")
    same = ["series", "budget_id", "seed"]
    newest = runs.sort_values(["written", "key"], kind="stable").drop_duplicates(same, keep="last")
    if len(newest) < len(runs):
        notes.append(
            f"{len(runs) - len(newest)} runs are there more than once (by other code or settings of no effect on their name): "
            "the newest file of each counts"
        )
    codes = {
        str((record.specification.get("code") or {}).get("sha256", ""))[:12]
        for record in results.records
        if record.key in set(newest["key"])
    }
    if len(codes) > 1:
        notes.append(f"runs of {len(codes)} versions of the code are compared: {', '.join(sorted(codes))}")
    order = {method: index for index, method in enumerate(METHOD_ORDER)}
    newest = newest.assign(order=newest["method"].map(order)).sort_values(
        ["order", "series", "budget_amount", "seed", "bits"], kind="stable"
    )
    float_run = newest[(newest["method"] == "float") & newest["perplexity"].notna()]
    level = float(float_run["perplexity"].iloc[0]) if len(float_run) else math.nan
    newest["loss_percent"] = 100 * (newest["perplexity"] / level - 1)
    return newest.drop(columns=["written", "order"]).reset_index(drop=True), set(newest["key"])


def _budget_id(budget: Mapping[str, Any]) -> str:
    """The same for budgets that ask the same, however they were typed: bits=5 and bits=5.0."""
    if not budget:
        return ""
    amount = f"{float(budget['amount']):.9g}{'x' if budget.get('is_share') else ''}"
    return f"{_budget_reading(budget)}={amount} {budget.get('device') or ''}".strip()


def _budget_reading(budget: Mapping[str, Any]) -> str:
    """The budget's kind, with how bits are counted where that is not the plain way."""
    reading = [f"scales {budget['bits_scales']}"] if budget.get("bits_scales", "out") != "out" else []
    reading += [f"weighted by {budget['bits_weighting']}"] if budget.get("bits_weighting", "plain") != "plain" else []
    return " ".join([str(budget.get("kind", "")), *reading])


def cost_setting(record: Record) -> str:
    """The device and the scenario that a record's energy and latency are of, "" where it has neither."""
    costs = record.costs or {}
    if not costs.get("device"):
        return ""
    phases = costs.get("phase") or costs.get("phases") or ()
    phases = [phases] if isinstance(phases, dict | str) else list(phases)
    return ", ".join([str(costs["device"]), *map(_phase_words, phases)])


def _phase_words(phase: Any) -> str:
    if not isinstance(phase, dict):
        return str(phase)
    parts = [str(phase.get("kind") or phase.get("phase") or "")]
    parts += [f"{name} {phase[name]}" for name in ("batch", "context") if name in phase]
    parts += [f"{phase['times']:g} times"] if phase.get("times", 1) != 1 else []
    return ", ".join(part for part in parts if part)


def _series_labels(records: tuple[Record, ...]) -> dict[str, str]:
    """A label for each record: the method's title, and those of its choices that differ in this folder."""
    searched = [record for record in records if record.method not in REFERENCES]
    titles = format_titles(sorted({name for record in records for name in record.specification.get("formats") or ()}))
    choices = {record.key: _choices(record, titles) for record in searched}
    everywhere = _varied(choices, searched, ("formats", "policy", "budgets"))
    labels = {}
    for record in records:
        title = METHOD_TITLES[record.method]
        if record.method == "uniform":
            labels[record.key] = f"uniform {'/'.join(titles[name] for name in record.specification.get('formats') or ())}"
        elif record.method == "float":
            labels[record.key] = title
        else:
            siblings = [other for other in searched if other.method == record.method]
            # what a method's own way is to tie operands is told by its name already
            varied = everywhere | _varied(choices, siblings, ("tied", "operands"))
            parts = [choices[record.key][name] for name in ("formats", "policy", "tied", "operands", "budgets") if name in varied]
            parts += _varied_settings(record, siblings)
            labels[record.key] = f"{title} ({', '.join(part for part in parts if part)})" if any(parts) else title
    return labels


def _varied(choices: Mapping[str, Mapping[str, str]], records: list[Record], names: tuple[str, ...]) -> set[str]:
    return {name for name in names if len({choices[record.key][name] for record in records}) > 1}


def _choices(record: Record, titles: Mapping[str, str]) -> dict[str, str]:
    specification = record.specification
    budget = specification.get("budget") or {}
    return {
        "formats": "/".join(titles[name] for name in specification.get("formats") or ()),
        "policy": str(specification.get("policy", "")),
        "tied": "fused layers tied" if specification.get("tie") else "",
        "operands": "operands apart" if specification.get("apart") else "operands together",
        "budgets": f"budgets in {_budget_reading(budget)}" + (f" on {budget['device']}" if budget.get("device") else ""),
    }


def _varied_settings(record: Record, siblings: list[Record]) -> list[str]:
    settings = _settings(record)
    parts = []
    for name in sorted(settings):
        values = {json.dumps(_settings(other).get(name), sort_keys=True) for other in siblings}
        if len(values) > 1:
            parts.append(f"{name} {settings[name]}")
    return parts


def _settings(record: Record) -> dict[str, Any]:
    """A run's settings, the search's own among them."""
    settings = dict(record.specification.get("settings") or {})
    search = settings.pop("search", None)
    settings |= search if isinstance(search, dict) else {}
    return {name: value for name, value in settings.items() if name not in UNTOLD_SETTINGS}


def _layers(records: Mapping[str, Record]) -> pd.DataFrame:
    rows = [
        (key, layer, role_of(layer), depth_of(layer), operand, pair[operand], element_bits(pair[operand]))
        for key, record in records.items()
        if record.assignment
        for layer, pair in record.assignment["layers"].items()
        for operand in ("weight", "activation")
    ]
    return pd.DataFrame(rows, columns=["key", "layer", "role", "depth", "operand", "format", "bits"])


def _costs(records: Mapping[str, Record]) -> pd.DataFrame:
    names = ("weight_bytes", "dram_bytes", "energy_pj", "latency_s", "macs")
    rows = []
    for key, record in records.items():
        for layer in (record.costs or {}).get("layers") or ():
            terms = {f"term:{term}": _number(value) for term, value in (layer.get("energy_by_term_pj") or {}).items()}
            row = {"key": key, "layer": layer["name"], "role": role_of(layer["name"]), "depth": depth_of(layer["name"])}
            rows.append({**row, **{name: _number(layer.get(name)) for name in names}, **terms})
    return pd.DataFrame(rows, columns=["key", "layer", "role", "depth", *names] if not rows else None)


def _trajectories(records: Mapping[str, Record]) -> pd.DataFrame:
    names = ("step", "loss", "bits", "cost", "temperature")
    parts = []
    for key, record in records.items():
        trajectory = record.trajectory or {}
        steps = trajectory.get("step") or []
        if steps:
            columns = {name: trajectory[name] for name in names if len(trajectory.get(name) or []) == len(steps)}
            parts.append(pd.DataFrame({"key": key, **columns}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["key", *names])


def offsets_of(record: Record) -> pd.DataFrame:
    """A row a layer, operand and step of one run's search; empty where nothing was kept."""
    trajectory = record.trajectory or {}
    rows = [
        (layer, role_of(layer), depth_of(layer), operand, step, value)
        for layer, operands in (trajectory.get("offsets") or {}).items()
        for operand, values in operands.items()
        for step, value in zip(trajectory.get("step") or [], values or [], strict=False)
    ]
    return pd.DataFrame(rows, columns=["layer", "role", "depth", "operand", "step", "offset"])


def _number(value: Any) -> float:
    """A finite float, or NaN: what JSON's null, Infinity and NaN all come to."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan
