"""The chosen assignments, small enough for a page: names and formats once, a run as a list of indices.

page.js puts together the very content of assignment.json from it; a number that is not finite, which JSON does not know, is null there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.frames import Frames
from analysis.names import COSTS, REFERENCES, element_bits, format_title, scaled
from analysis.plots.format_map import cells_of, shares
from analysis.plots.style import FORMAT_SHADES
from analysis.summary import Analysis, nearest_budget
from mxsim.json_files import finite


def shade_bits(bits: float) -> int:
    """The bits whose colour a cell takes."""
    return min(FORMAT_SHADES, key=lambda known: abs(known - bits))


def store(analysis: Analysis) -> dict[str, Any]:
    """{"layers": [names...], "formats", "runs": [...], "first": the run shown first}: a run a series and budget."""
    layers: list[list[str]] = []
    formats: dict[str, int] = {}
    runs: list[dict[str, Any]] = []
    for _, point in analysis.points.iterrows():
        record = analysis.frames.records.get(point["key"])
        if record is None or record.assignment is None or record.method == "float":
            continue
        content = dict(record.assignment)
        pairs = content.pop("layers")
        names = list(pairs)
        if names not in layers:
            layers.append(names)
        taken = [pair[operand] for pair in pairs.values() for operand in ("weight", "activation")]
        runs.append(
            {
                "series": point["series"],
                "budget": point["budget"] or "everywhere",
                "key": record.key,
                "layers": layers.index(names),
                "pairs": [formats.setdefault(name, len(formats)) for name in taken],
                "rest": content,
                "facts": facts(analysis.frames, point),
                "cells": map_cells(cells_of(analysis.frames, record.key)),
            }
        )
    own = analysis.points[(analysis.points["series"] == analysis.main_series) & analysis.points["key"].isin([run["key"] for run in runs])]
    first = own.iloc[nearest_budget(own)]["key"] if len(own) else (runs[0]["key"] if runs else "")
    return {"layers": layers, "formats": list(formats), "runs": runs, "first": first}


def valid_json(content: Any, indent: int | None = None) -> str:
    """The content as JSON that every reader takes: numbers that are not finite become null."""
    separators = (",", ":") if indent is None else None
    return json.dumps(finite(content), allow_nan=False, indent=indent, separators=separators)


def facts(frames: Frames, point: pd.Series) -> list[tuple[str, str]]:
    """What the chosen run achieved, in words."""
    run = frames.runs[frames.runs["key"] == point["key"]].iloc[0]
    told = [("perplexity", f"{run['perplexity']:.5g}")] if pd.notna(run["perplexity"]) else []
    if pd.notna(run["loss_percent"]):
        told.append(("loss against float", f"{run['loss_percent']:.2f} %"))
    if pd.notna(run["kl_to_float"]):
        told.append(("KL from float", f"{run['kl_to_float']:.4g} nats"))
    if pd.notna(run["bits"]):
        told.append(("average bits", f"{run['bits']:.4g}"))
    names = {"bits_with_scales": "with scales", "bytes": "bytes", "energy_pj": "energy", "latency_s": "latency"}
    told += [(names[metric.column], scaled(metric, run[metric.column])) for metric in COSTS if pd.notna(run[metric.column])]
    if run["method"] not in REFERENCES:
        told.append(("seed", str(run["seed"])))
    return told


def map_cells(cells: pd.DataFrame) -> list[tuple[Any, ...]]:
    """(role, block, shade of the weight, shade of the activation, what hovering says) for each cell; where a cell's layers differ, one
    more: the background whose stripes show their shares. Args: cells: of cells_of."""
    found: list[tuple[Any, ...]] = []
    for cell in cells.itertuples():
        weight, activation = shares(cell.weight), shares(cell.activation)
        told = (
            _formats(cell.weight)
            if cell.weight == cell.activation
            else f"weights {_formats(cell.weight)}, activations {_formats(cell.activation)}"
        )
        shades = [shade_bits(max(reversed(operand), key=lambda one: one[1])[0]) for operand in (weight, activation)]
        plain = (str(cell.role), int(cell.depth), *shades, f"{cell.role}, block {cell.depth}: {told}")
        is_striped = len(weight) > 1 or len(activation) > 1
        found.append(
            (*plain, f"{_stripes(weight)} 0 0/100% 50% no-repeat,{_stripes(activation)} 0 100%/100% 50% no-repeat") if is_striped else plain
        )
    return found


def _formats(formats: Mapping[str, int]) -> str:
    """ "MXFP8 E4M3"; "1 × MXFP4 E2M1, 3 × MXFP8 E4M3" for a cell of several layers."""
    alone = sum(formats.values()) == 1
    return ", ".join(f"{'' if alone else f'{layers} × '}{format_title(name)}" for name, layers in formats.items())


def _stripes(operand: Sequence[tuple[float, float]]) -> str:
    stops, left = [], 0.0
    for bits, share in operand:
        stops.append(f"var(--b{shade_bits(bits)}) {100 * left:.4g}% {100 * (left + share):.4g}%")
        left += share
    return f"linear-gradient(90deg,{','.join(stops)})"


def format_key(layers: pd.DataFrame) -> list[dict[str, Any]]:
    """The formats in use, lowest first, with the shade each takes. Args: layers: rows of Frames.layers."""
    used = sorted(set(layers["format"]), key=lambda name: (element_bits(name), name))
    return [{"bits": shade_bits(element_bits(name)), "title": format_title(name)} for name in used]
