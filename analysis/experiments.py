"""Experiments on the hardware's side: what one property of a matmul unit or of a conversion does to quality, and what it costs.

They stand in hardware.json of a result folder, or in *.json of its folder hardware:

    {"schema": 1,
     "model": {"name", "sha256"}, "text": {"name", "sha256"},
     "float_perplexity": 7.07,              the float model on the same text, or null
     "energy_source": "...",                where energy_pj comes from, in words; "" where there is none
     "experiments": [
       {"vary": "accumulator_bits",         one of VARIED
        "value": 14,                        a number; a name for rounding and scale_rule
        "base": "nvidia_hopper_wgmma",      the unit or policy that is varied
        "format": "mxfp8_e4m3",             of the linears: W or W:A
        "perplexity": 7.31, "kl_to_float": 0.03, "tokens": 8192,
        "energy_pj": 1.2e9}]}               per step, or null
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.records import Problem, number

SCHEMA = 1
#: what may be varied -> its axis, and whether its values are numbers that double
VARIED: Mapping[str, tuple[str, bool]] = {
    "accumulator_bits": ("accumulator width, significand bits", False),
    "alignment_bits": ("alignment, bits kept below the largest product", False),
    "promotion_interval": ("products between promotions to FP32", True),
    "rounding": ("rounding of the accumulator", False),
    "scale_rule": ("scale rule", False),
    "block_size": ("block size, elements per scale", True),
}
NAMED = ("rounding", "scale_rule")  #: whose values are names


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiments:
    """What one file holds."""

    model: str
    text: str
    float_perplexity: float
    energy_source: str
    points: pd.DataFrame  #: vary, value, base, format, perplexity, kl_to_float, tokens, energy_pj

    def of(self, vary: str) -> pd.DataFrame:
        own = self.points[self.points["vary"] == vary]
        if vary in NAMED:
            return own
        return own.assign(value=own["value"].astype(float)).sort_values("value", kind="stable")

    @property
    def varied(self) -> tuple[str, ...]:
        """What was varied with more than one value, in VARIED's order."""
        return tuple(name for name in VARIED if self.points[self.points["vary"] == name]["value"].nunique() > 1)


def read_experiments(folder: Path, model: str | None = None) -> tuple[list[Experiments], list[Problem]]:
    """Every file of experiments in a result folder, of one model where one is named. What cannot be used is a Problem."""
    inside = folder / "hardware"
    files = [folder / "hardware.json", *(sorted(inside.glob("*.json")) if inside.is_dir() else [])]
    found: list[Experiments] = []
    problems: list[Problem] = []
    for file in files:
        if not file.exists():
            continue
        try:
            experiments = _checked(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            problems.append(Problem(kind="unreadable", path=file, reason=str(error)))
            continue
        if model in (None, experiments.model):
            found.append(experiments)
    return found, problems


def _checked(content: Any) -> Experiments:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"an object of schema {SCHEMA} is expected: see analysis.experiments")
    model, text, listed = content.get("model"), content.get("text"), content.get("experiments")
    if not isinstance(model, dict) or not isinstance(text, dict) or not isinstance(listed, list):
        raise ValueError('"model" and "text" must be objects, "experiments" a list')
    rows = []
    for index, one in enumerate(listed):
        if not isinstance(one, dict) or one.get("vary") not in VARIED:
            name = one.get("vary") if isinstance(one, dict) else one
            raise ValueError(f"experiments[{index}] varies {name!r}: known are {', '.join(VARIED)}")
        vary, value = one["vary"], one.get("value")
        if (vary in NAMED) != isinstance(value, str) or isinstance(value, bool) or value is None:
            raise ValueError(f"experiments[{index}]: {vary} = {value!r}: {'a name' if vary in NAMED else 'a number'} is expected")
        numbers = {name: number(one.get(name)) for name in ("perplexity", "kl_to_float", "tokens", "energy_pj")}
        rows.append({"vary": vary, "value": value, "base": str(one.get("base", "")), "format": str(one.get("format", "")), **numbers})
    columns = ["vary", "value", "base", "format", "perplexity", "kl_to_float", "tokens", "energy_pj"]
    return Experiments(
        model=str(model.get("name")),
        text=str(text.get("name")),
        float_perplexity=number(content.get("float_perplexity")),
        energy_source=str(content.get("energy_source") or ""),
        points=pd.DataFrame(rows, columns=columns),
    )
