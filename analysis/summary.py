"""The result in words and numbers: what a page says first and `--json` prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frames import Frames, frames_of
from analysis.names import COSTS, KL, OWN_METHODS, PERPLEXITY, REFERENCES
from analysis.pareto import dominance, hypervolumes, points_table
from analysis.records import Problem, Results
from analysis.roles import paper_claim, role_table
from analysis.scenarios import priced_device
from analysis.views import View, costs_of, qualities_of, views

MOST_DIGITS = 6  #: of a percentage
HEADLINE_BITS = 5.0  #: the budget a headline is about, or the nearest to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Everything that is told of one model and one text."""

    results: Results
    frames: Frames
    points: pd.DataFrame
    views: list[View]
    hypervolumes: pd.DataFrame
    dominance: pd.DataFrame
    roles: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def model(self) -> str:
        return self.results.records[0].model

    @property
    def text(self) -> str:
        return str(self.results.records[0].report_text.get("name") or "its own text")

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.results.problems

    @property
    def main_series(self) -> str | None:
        """The series that the maps, the roles and the headline are about: dMX's largest, or the largest there is."""
        return main_series(self.points)

    @property
    def headline(self) -> str:
        return headline(self.points)


def analyse(results: Results) -> Analysis:
    """Everything from the results of one model and one text (see records.choose)."""
    frames = frames_of(results)
    qualities, costs = qualities_of(frames), costs_of(frames)
    points = points_table(frames, [metric.column for metric in (PERPLEXITY, KL, *frames.tasks, *COSTS)] + ["loss_percent", "bits"])
    areas = [hypervolumes(frames, cost, quality) for quality in qualities for cost in costs]
    beats = [dominance(points, quality) for quality in qualities]
    name = main_series(points)
    notes = list(frames.notes)
    searched = points[~points["method"].isin(REFERENCES)]
    if len(searched) == 1:
        notes.append("there is one single point: it is drawn, but a front, an interval or a comparison needs more runs")
    if not len(searched):
        notes.append("there are only reference runs (float, uniform): no method to compare")
    if not (points["method"] == "float").any():
        notes.append("the float model's run is missing: losses in percent cannot be told")
    notes += _look_notes(searched, name)
    notes += [why for why in [priced_device(frames.priced)[1] if frames.priced else ""] if why]
    absent = [metric.short for metric in COSTS if metric not in costs]
    if absent:
        notes.append(
            f"no run has {' or '.join(absent)}: those fronts are left out (a sweep with --device, or an accepted assumption, gives them)"
        )
    return Analysis(
        results=results,
        frames=frames,
        points=points,
        views=views(frames, points),
        hypervolumes=pd.concat(areas, ignore_index=True) if areas else pd.DataFrame(),
        dominance=pd.concat(beats, ignore_index=True) if beats else pd.DataFrame(),
        roles=role_table(frames, name) if name else role_table(frames, ""),
        notes=tuple(notes),
    )


def main_series(points: pd.DataFrame) -> str | None:
    """dMX's series with budgets in bits; of several the one that shares most budgets with baselines of its formats, then the one with most
    budgets; without dMX that of another method; None where only references are there."""
    searched = points[~points["method"].isin(REFERENCES)]
    if not len(searched):
        return None
    own = searched[searched["method"] == "dmx"]
    own = own if len(own) else searched
    baselines = searched[~searched["method"].isin(OWN_METHODS)]
    shared = {
        series: int(group["budget_id"].isin(_alike(baselines, group.iloc[0])["budget_id"]).sum()) for series, group in own.groupby("series")
    }
    counts = own.groupby("series", sort=False).size()
    in_bits = set(own.loc[own["budget_kind"] == "bits", "series"])
    return str(max(counts.index, key=lambda series: (series in in_bits, shared[series], counts[series])))


def _alike(points: pd.DataFrame, one: pd.Series) -> pd.DataFrame:
    """The points that had the same formats and policy to choose from, and the same text to look at: only those are a fair comparison."""
    same = _same_choice(points, one)
    return same[same["looked_at"].isin(["", one["looked_at"]]) | (one["looked_at"] == "")]


def _same_choice(points: pd.DataFrame, one: pd.Series) -> pd.DataFrame:
    return points[(points["formats"] == one["formats"]) & (points["policy"] == one["policy"])]


def _look_notes(searched: pd.DataFrame, name: str | None) -> list[str]:
    """A note where baselines looked at another part or amount of text than the main series."""
    if name is None:
        return []
    own = searched[searched["series"] == name]
    baselines = searched[~searched["method"].isin(OWN_METHODS) & searched["budget_id"].isin(own["budget_id"])]
    same = _same_choice(baselines, own.iloc[0])
    told = list(dict.fromkeys(same.loc[~same.index.isin(_alike(same, own.iloc[0]).index), "series"]))
    return [f"the headline compares {name} with none of {_listed(told)}: they looked at another part of the search text"] if told else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The main series at one budget against KL (the paper's baseline), and against the best baseline there: of the same formats."""

    mine: pd.Series
    rival: pd.Series | None  #: KL; without it the best baseline
    best: pd.Series | None  #: the best baseline

    @property
    def budget(self) -> str:
        amount = self.mine["budget_amount"]
        if self.mine["budget_kind"] != "bits":
            return str(self.mine["budget"])
        return f"{amount:.1f} bits" if round(amount, 1) == amount else f"{amount:g} bits"

    def __str__(self) -> str:
        mine, at = self.mine["loss_percent"], f"{self.mine['series']} at {self.budget}"
        if self.rival is None:
            return f"{at} {loses(mine, digits_of(mine))} of perplexity"
        theirs, name = self.rival["loss_percent"], self.rival["series"]
        digits = digits_of(mine, theirs)
        if mine == theirs:
            return f"{at} {loses(mine, digits)}, exactly as {name} does"
        if _rounded(mine, digits) == _rounded(theirs, digits):
            return f"{at} {loses(mine, digits)}, the same as {name} to {digits} digits"
        if mine >= 0 and theirs >= 0:
            return f"{at} {loses(mine, digits)} against {theirs:.{digits}f} % for {name}"
        return f"{at} {loses(mine, digits)} where {name} {loses(theirs, digits)}"


def loses(percent: float, digits: int) -> str:
    """ "loses 1.9 %", or "gains 0.2 %" where perplexity is below the float model's."""
    return f"{'loses' if percent >= 0 else 'gains'} {abs(percent):.{digits}f} %"


def digits_of(*percents: float, least: int = 1) -> int:
    """How many digits behind the point tell percentages apart, and from 0 where they are not 0; no more than MOST_DIGITS."""
    wanted = len({*percents, 0.0})
    enough = (digits for digits in range(least, MOST_DIGITS) if len({_rounded(one, digits) for one in (*percents, 0.0)}) == wanted)
    return next(enough, MOST_DIGITS)


def _rounded(percent: float, digits: int) -> float:
    return float(f"{percent:.{digits}f}")


def comparison(points: pd.DataFrame) -> Comparison | None:
    """What the headline compares; None where no search and no float run is there."""
    usable = points.dropna(subset=["loss_percent"])
    name = main_series(usable)
    if name is None:
        return None
    mine = usable[usable["series"] == name]
    rivals = usable[(usable["series"] != name) & ~usable["method"].isin(REFERENCES) & usable["budget_id"].isin(mine["budget_id"])]
    rivals = _alike(rivals, mine.iloc[0])
    baselines = rivals[~rivals["method"].isin(OWN_METHODS)]
    baselines = baselines if len(baselines) else rivals
    kl = baselines[baselines["method"] == "kl"]
    first = kl if len(kl) else baselines
    shared = mine[mine["budget_id"].isin(first["budget_id"])] if len(first) else mine
    here = shared.iloc[nearest_budget(shared)]

    def best_of(candidates: pd.DataFrame) -> pd.Series | None:
        own = candidates[candidates["budget_id"] == here["budget_id"]].sort_values("loss_percent", kind="stable")
        return own.iloc[0] if len(own) else None

    return Comparison(mine=here, rival=best_of(first), best=best_of(baselines))


def headline(points: pd.DataFrame) -> str:
    """ "dMX at 5.0 bits loses 1.9 % against 3.4 % for KL": of perplexity, against float, seeds' medians."""
    compared = comparison(points)
    if compared is None:
        return "No search finished with a float run to compare with: there is no result to put in one line."
    return str(compared)


def nearest_budget(points: pd.DataFrame) -> int:
    """The row whose budget is nearest to HEADLINE_BITS; the middle row where no budget is in bits."""
    bits = points["budget_kind"] == "bits"
    if bits.any():
        distance = (points["budget_amount"] - HEADLINE_BITS).abs().where(bits, math.inf)
        return int(distance.to_numpy().argmin())
    return (len(points) - 1) // 2


def sentences(analysis: Analysis) -> list[str]:
    """The summary below the headline, a fact a sentence."""
    points, name = analysis.points, analysis.main_series
    said: list[str] = []
    wide = points[points["method"] == "float"]
    if len(wide) and not math.isnan(wide["perplexity"].iloc[0]):
        uniform = points[(points["method"] == "uniform") & points["loss_percent"].notna()].sort_values("bits_with_scales", kind="stable")
        told = ", ".join(
            f"{row.series.removeprefix('uniform ')} everywhere {loses(row.loss_percent, digits_of(row.loss_percent))}"
            for row in uniform.itertuples()
        )
        said.append(f"The float model's perplexity is {wide['perplexity'].iloc[0]:.4g}{'; ' + told if told else ''}.")
    if name is None:
        return said
    compared = comparison(points)
    if compared is not None and compared.best is not None:
        best, mine = compared.best, compared.mine
        margin = best["loss_percent"] - mine["loss_percent"]
        percent, points_apart = loses(best["loss_percent"], 2), f"{abs(margin):.{digits_of(margin, least=2)}f} percentage points"
        how = "just as" if margin == 0 else f"{points_apart} {'worse' if margin > 0 else 'better'} than"
        said.append(f"The best baseline at {compared.budget} is {best['series']}, which {percent}: {how} {name}.")
    beats = analysis.dominance
    if len(beats):
        beats = beats[(beats["quality"] == PERPLEXITY.column) & (beats["series"] == name) & (beats["budgets"] > 0)]
        if len(beats):
            parts = [
                f"{row.against} at {row.better} of {row.budgets}" + (f" (equal at {row.equal})" if row.equal else "")
                for row in beats.itertuples()
            ]
            said.append(f"Perplexity of {name} is lower than that of {_listed(parts)} budgets.")
    areas = analysis.hypervolumes
    if len(areas):
        areas = areas[(areas["quality"] == PERPLEXITY.column) & (areas["cost"] == COSTS[0].column)].sort_values(
            "share", ascending=False, kind="stable"
        )
        if len(areas) > 1:
            told = ", ".join(f"{row.series} {row.share:.3f}" for row in areas.itertuples())
            said.append(f"Share of the box that each front dominates, perplexity against bits: {told}.")
    if len(analysis.roles):
        said.append(paper_claim(analysis.roles))
    return said


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def budget_table(analysis: Analysis, column: str = "loss_percent") -> pd.DataFrame:
    """Rows: budgets; columns: series; values: the seeds' median."""
    searched = analysis.points[~analysis.points["method"].isin(REFERENCES)]
    if not len(searched):
        return pd.DataFrame()
    order = list(dict.fromkeys(searched["series"]))
    firsts = searched.drop_duplicates("budget_id").sort_values(["budget_kind", "budget_amount"], kind="stable")
    table = searched.pivot_table(index="budget_id", columns="series", values=column, aggfunc="first", dropna=False)
    return table.reindex(index=firsts["budget_id"], columns=order).set_axis(list(firsts["budget"]), axis=0)


def to_json(analysis: Analysis) -> dict[str, Any]:
    """The summary for programs: plain types, NaN as null."""
    return {
        "model": analysis.model,
        "text": analysis.text,
        "headline": analysis.headline,
        "sentences": sentences(analysis),
        "main_series": analysis.main_series,
        "runs": len(analysis.frames.runs),
        "points": _rows(analysis.points),
        "hypervolume": _rows(analysis.hypervolumes),
        "dominance": _rows(analysis.dominance),
        "roles": _rows(analysis.roles),
        "notes": list(analysis.notes),
        "problems": [{"kind": one.kind, "file": one.path.name, "method": one.method, "reason": one.reason} for one in analysis.problems],
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
