"""Records as tidy pandas frames: a row a run, a layer's operand, a layer's cost, a step.

A *series* is what a reader compares: a method with everything else that was chosen for it, budget and seed apart. Its label names only
what differs in this folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.names import METHOD_ORDER, Metric, element_bits, task_metric
from analysis.records import Record, Results, number
from analysis.scenarios import budget_amount, budget_id, cost_setting, is_one_step
from analysis.series import look_words, series_labels

ACHIEVED = ("bits", "bits_with_scales", "bytes", "energy_pj", "latency_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """One subject's records as tables, and what had to be said on the way."""

    runs: pd.DataFrame  #: a row a run that counts
    layers: pd.DataFrame  #: a row a run, layer and operand: format and element bits
    costs: pd.DataFrame  #: a row a run and layer, of the runs whose costs are of the setting below
    trajectories: pd.DataFrame  #: a row a run and step
    tasks: tuple[Metric, ...]
    records: Mapping[str, Record]
    notes: tuple[str, ...] = ()
    priced: Record | None = None  #: one whose energy and latency are of the setting that all those told here are of

    @property
    def is_one_step(self) -> bool:
        """Whether energies and latencies are of a single step."""
        return self.priced is None or is_one_step(self.priced)


def frames_of(results: Results) -> Frames:
    """The tables of results of one model and one text.

    Several records of the same run (another code version, say) are taken down to the newest file, and a note says so.
    """
    notes: list[str] = []
    usual = _usual_setting(results.records, notes)
    runs, kept = _runs(results, usual, notes)
    records = {record.key: record for record in kept}
    chances = {
        name: (task or {}).get("chance") for record in records.values() for name, task in (record.quality.get("tasks") or {}).items()
    }
    priced = {key: record for key, record in records.items() if usual and cost_setting(record) == usual}
    return Frames(
        runs=runs,
        layers=_layers(records),
        costs=_costs(priced),
        trajectories=_trajectories(records),
        tasks=tuple(task_metric(name, chance) for name, chance in sorted(chances.items())),
        records=records,
        notes=tuple(notes),
        priced=next(iter(priced.values()), None),
    )


def role_of(layer: str) -> str:
    """The layer's part in its block: down_proj of model.layers.3.mlp.down_proj."""
    return layer.rpartition(".")[2]


def depth_of(layer: str) -> int:
    """The block's number: 3 of model.layers.3.mlp.down_proj; -1 where a name has none."""
    found = re.search(r"\.(\d+)\.", layer)
    return int(found.group(1)) if found else -1


def _usual_setting(records: Iterable[Record], notes: list[str]) -> str:
    """What most runs' energy and latency are of; a note where others differ."""
    known = pd.Series([setting for setting in map(cost_setting, records) if setting], dtype=object)
    usual = str(known.mode().iloc[0]) if len(known) else ""
    others = sorted(set(known) - {usual})
    if others:
        told = "; ".join(others)
        notes.append(f"energy and latency are of {usual}; those of {told} are not comparable with them and left out")
    return usual


def _runs(results: Results, usual: str, notes: list[str]) -> tuple[pd.DataFrame, list[Record]]:
    labels = series_labels(results.records)
    rows: list[dict[str, Any]] = []
    for place, record in enumerate(results.records):
        setting = cost_setting(record)
        specification, achieved = record.specification, record.achieved
        budget = specification.get("budget") or {}
        row: dict[str, Any] = {
            "place": place,
            "key": record.key,
            "method": record.method,
            "series": labels[record.key],
            "formats": ",".join(specification.get("formats") or ()),
            "policy": specification.get("policy"),
            "looked_at": look_words(record),
            "budget_kind": budget.get("kind", ""),
            "budget": str(budget.get("text") or ""),
            "budget_amount": budget_amount(budget),
            "budget_id": budget_id(record),
            "seed": specification.get("seed"),
        }
        row |= {name: number(achieved.get(name)) for name in ACHIEVED}
        if setting and setting != usual:
            row |= {"energy_pj": math.nan, "latency_s": math.nan}
        row |= {name: number(record.quality.get(name)) for name in ("perplexity", "kl_to_float", "tokens")}
        for name, task in (record.quality.get("tasks") or {}).items():
            row[f"accuracy:{name}"] = 100 * number((task or {}).get("accuracy"))
            row[f"stderr:{name}"] = 100 * number((task or {}).get("stderr"))
        row |= {name: number(record.timing.get(name)) for name in ("seconds_search", "seconds_evaluate")}
        row["usual"] = bool(usual) and setting == usual
        row["written"] = record.path.stat().st_mtime if record.path.exists() else 0.0
        rows.append(row)
    runs = pd.DataFrame(rows)
    broken = runs[runs["perplexity"].isna()]
    if len(broken):
        notes.append(f"{len(broken)} finished runs have no finite perplexity: they stand in the table, not in the fronts")
    same = ["series", "budget_id", "seed"]
    newest = runs.sort_values(["usual", "written", "key"], kind="stable").drop_duplicates(same, keep="last")
    newest = newest.drop_duplicates("key", keep="last")  # of a file that was copied and then changed
    if len(newest) < len(runs):
        notes.append(
            f"{len(runs) - len(newest)} runs are there more than once (by other code or settings of no effect on their name): "
            "the newest file of each counts" + (", of those with that energy and latency" if not runs["usual"].all() and usual else "")
        )
    kept = [results.records[place] for place in sorted(newest["place"])]
    codes = {str((record.specification.get("code") or {}).get("sha256", ""))[:12] for record in kept}
    if len(codes) > 1:
        notes.append(f"runs of {len(codes)} versions of the code are compared: {', '.join(sorted(codes))}")
    order = {method: index for index, method in enumerate(METHOD_ORDER)}
    newest = newest.assign(order=newest["method"].map(order)).sort_values(
        ["order", "series", "budget_amount", "seed", "bits"], kind="stable"
    )
    float_run = newest[(newest["method"] == "float") & newest["perplexity"].notna()]
    level = float(float_run["perplexity"].iloc[0]) if len(float_run) else math.nan
    newest["loss_percent"] = 100 * (newest["perplexity"] / level - 1)
    return newest.drop(columns=["place", "usual", "written", "order"]).reset_index(drop=True), kept


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
            terms = {f"term:{term}": number(value) for term, value in (layer.get("energy_by_term_pj") or {}).items()}
            row = {"key": key, "layer": layer["name"], "role": role_of(layer["name"]), "depth": depth_of(layer["name"])}
            rows.append({**row, **{name: number(layer.get(name)) for name in names}, **terms})
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
        for operand, values in (operands or {}).items()
        for step, value in zip(trajectory.get("step") or [], values or [], strict=False)
    ]
    return pd.DataFrame(rows, columns=["layer", "role", "depth", "operand", "step", "offset"])
