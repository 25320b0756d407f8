"""How our searches stand against the baselines: budget by budget, and by the areas under their fronts."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from analysis.frames import frames_of
from analysis.names import COSTS, KL, METHOD_ORDER, OWN_METHODS, PERPLEXITY, REFERENCES, Metric
from analysis.pareto import hypervolume, points_table, reference_box
from analysis.records import Record, Results

#: quality -> our search for it
OURS: Mapping[Metric, str] = MappingProxyType({PERPLEXITY: "dmx", KL: "dmx_kl"})
NEAR = 0.005  #: a method is as good as the best where its median lies within this share


def budget_of(record: Record) -> str:
    """As it was asked for: bits=5; nothing where there was none."""
    budget = record.specification["budget"]
    return str(budget["text"]) if budget else ""


def kind_of(record: Record) -> str:
    """Of its budget: bits, bytes, energy or latency; nothing where it had none."""
    return budget_of(record).partition("=")[0]


def value(record: Record, quality: Metric) -> float:
    return float(record.quality[quality.column])


def by_budget(records: Iterable[Record]) -> dict[str, dict[str, list[Record]]]:
    """Budget -> method -> its seeds, the kinds of budgets in turn and the smaller first. Records without a budget are left out."""
    found: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if budget_of(record):
            found[budget_of(record)][record.method].append(record)
    return dict(sorted(found.items(), key=lambda item: (item[0].partition("=")[0], float(item[0].partition("=")[2].rstrip("x")))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Of one search against all methods that are not ours, in medians over seeds."""

    budgets: int  #: at which it and a baseline were run
    lowest: int  #: of them, where no baseline is lower
    near: int  #: where it is within NEAR of the lowest baseline
    worst: float  #: the largest share by which it is above the lowest baseline; 0 where it never is

    def __add__(self, other: Standing) -> Standing:
        return Standing(
            budgets=self.budgets + other.budgets,
            lowest=self.lowest + other.lowest,
            near=self.near + other.near,
            worst=max(self.worst, other.worst),
        )


NOWHERE = Standing(budgets=0, lowest=0, near=0, worst=0.0)


def standing(budgets: Mapping[str, Mapping[str, list[Record]]], quality: Metric) -> Standing:
    """Our search for a quality among the baselines. Args: budgets: as by_budget gives them."""
    told = NOWHERE
    for found in budgets.values():
        middle = medians(found, quality)
        baselines = [median for method, median in middle.items() if method not in OWN_METHODS]
        if OURS[quality] in middle and baselines:
            ours, lowest = middle[OURS[quality]], min(baselines)
            above = max(0.0, ours / lowest - 1)
            told += Standing(budgets=1, lowest=int(ours <= lowest), near=int(above <= NEAR), worst=above)
    return told


def medians(found: Mapping[str, list[Record]], quality: Metric) -> dict[str, float]:
    """Method -> the median over its seeds, at one budget."""
    return {method: statistics.median(value(record, quality) for record in records) for method, records in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A quality against a cost: of each method's front, the hypervolume as a share of the box between uniform formats and float."""

    quality: Metric
    cost: Metric
    shares: Mapping[str, float]  #: method -> share; only methods that were given every budget

    @property
    def is_ours_largest(self) -> bool:
        """No method that is not ours has a larger one, to the last digit."""
        ours = self.shares.get(OURS[self.quality], 0.0)
        return all(ours >= share for method, share in self.shares.items() if method not in OWN_METHODS)


def planes(results: Results) -> list[Plane]:
    """Of all that each method found, whatever kind of budget it was given: against every cost where budgets of bits are among them, else
    against the budgets' own costs."""
    kinds = {kind_of(record) for record in results.records}
    costs = [cost for cost in COSTS if "bits" in kinds or cost.short in kinds]
    frames = frames_of(results)
    points = points_table(frames, [metric.column for metric in (*OURS, *costs)])
    budgets = points[~points["method"].isin(REFERENCES)].groupby("method").size()
    methods = sorted(budgets.index[budgets == budgets.max()], key=METHOD_ORDER.index)
    found = []
    for quality, cost in product(OURS, costs):
        box = reference_box(frames, cost, quality)
        if box is None or not methods:
            continue
        fronts = {m: points.loc[points["method"] == m, [cost.column, quality.column]].to_numpy(float) for m in methods}
        shares = {m: float(hypervolume(front, box.reference)) / box.area for m, front in fronts.items()}
        found.append(Plane(quality=quality, cost=cost, shares=shares))
    return found
