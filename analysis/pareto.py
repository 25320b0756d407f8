"""Fronts, dominance and hypervolume, exact in two dimensions.

Everywhere here the first coordinate is a cost (less is better) and the second a quality brought to "less is better" by its sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.frames import Frames
from analysis.names import Metric

RESAMPLES = 2000
LEVEL = 0.95

Points = npt.NDArray[np.float64]  #: (points, 2): cost, quality, both to be made small


def front(points: Points) -> npt.NDArray[np.bool_]:
    """Which points no other one dominates (is nowhere worse, and somewhere better). Equal points are all on the front.

    Args: points: (n, 2), both columns to be made small; a row with NaN is on no front.  Returns: (n,) bool.
    """
    kept = np.zeros(len(points), dtype=bool)
    usable = np.flatnonzero(~np.isnan(points).any(axis=1))
    order = usable[np.lexsort((points[usable, 1], points[usable, 0]))]
    best, best_cost = math.inf, math.nan
    for index in order:
        cost, quality = points[index]
        if quality < best:
            kept[index], best, best_cost = True, quality, cost
        elif quality == best and cost == best_cost:
            kept[index] = True
    return kept


def hypervolume(points: Points, reference: tuple[float, float]) -> npt.NDArray[np.float64]:
    """The area that points dominate, up to the reference point. Exact up to float64's rounding; what lies beyond it adds nothing.

    Args: points: (..., n, 2), both columns to be made small; NaN counts as beyond.  Returns: (...) areas, in the product of the units.
    """
    limit = np.asarray(reference, dtype=np.float64)
    clipped = np.where(np.isnan(points).any(axis=-1, keepdims=True), limit, np.minimum(points, limit))
    order = np.argsort(clipped[..., 0], axis=-1, kind="stable")
    cost = np.take_along_axis(clipped[..., 0], order, axis=-1)
    floor = np.minimum.accumulate(np.take_along_axis(clipped[..., 1], order, axis=-1), axis=-1)
    ceiling = np.concatenate([np.full((*floor.shape[:-1], 1), limit[1]), floor[..., :-1]], axis=-1)
    return np.asarray(((limit[0] - cost) * (ceiling - floor)).sum(axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The rectangle whose dominated share a hypervolume is told as: from the ideal corner to the reference point."""

    reference: tuple[float, float]
    ideal: tuple[float, float]
    says: str  #: where the corners come from

    @property
    def area(self) -> float:
        return (self.reference[0] - self.ideal[0]) * (self.reference[1] - self.ideal[1])


def sign(quality: Metric) -> float:
    """What a quality is multiplied by to become something to be made small."""
    return -1.0 if quality.higher_is_better else 1.0


def points_table(frames: Frames, metrics: list[str]) -> pd.DataFrame:
    """A row a series and budget: the seeds' median, least and largest of every metric, and the run that stands for them.

    Columns: series, method, formats, policy, looked_at, budget_kind, budget, budget_id, budget_amount, seeds, key (the run of median
    perplexity), and METRIC, METRIC:low, METRIC:high, METRIC:seeds (that have a value).
    """
    rows = []
    told = ("series", "method", "formats", "policy", "looked_at", "budget_kind", "budget", "budget_id", "budget_amount")
    for _, group in frames.runs.groupby(["series", "budget_id"], sort=False):
        row = {name: group.iloc[0][name] for name in told}
        ranked = group.dropna(subset=["perplexity"]).sort_values(["perplexity", "seed"], kind="stable")
        row |= {"seeds": len(group), "key": (ranked if len(ranked) else group).iloc[max(len(ranked) - 1, 0) // 2]["key"]}
        for metric in metrics:
            values = group[metric].dropna() if metric in group else pd.Series(dtype=float)
            row |= {metric: values.median(), f"{metric}:low": values.min(), f"{metric}:high": values.max(), f"{metric}:seeds": len(values)}
        rows.append(row)
    return pd.DataFrame(rows)


def reference_box(frames: Frames, cost: Metric, quality: Metric) -> Box | None:
    """Where hypervolumes of this pair of axes are measured from; None where no run has both.

    The reference point joins the dearest uniform format's cost and the worst uniform format's quality, the ideal corner the cheapest one's
    cost and the float model's quality: a share of 1 would be float's quality at the cheapest format's cost. Without those runs, or where no
    uniform format is worse than float, the corners are those of all points, the reference 5 % further out.
    """
    missing = "there are no two uniform formats and float to measure from"
    runs = frames.runs.dropna(subset=[cost.column, quality.column]) if quality.column in frames.runs else frames.runs.iloc[:0]
    if not len(runs):
        return None
    side = sign(quality)
    uniform, wide = runs[runs["method"] == "uniform"], runs[runs["method"] == "float"]
    if uniform[cost.column].nunique() > 1 and len(wide):
        worst = (side * uniform[quality.column]).max()
        best = side * wide[quality.column].iloc[0]
        missing = "no uniform format is worse than float here"
        if worst > best:
            return Box(
                reference=(float(uniform[cost.column].max()), float(worst)),
                ideal=(float(uniform[cost.column].min()), float(best)),
                says="reference: the dearest uniform format's cost and the worst uniform format's quality; "
                "ideal: the cheapest uniform format's cost at float quality",
            )
    searched = runs[runs["method"] != "float"]
    searched = searched if len(searched) else runs
    corners = np.column_stack([searched[cost.column], side * searched[quality.column]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = 0.05 * np.where(high > low, high - low, np.maximum(np.abs(high), 1e-12))
    far = high + margin
    return Box(
        reference=(float(far[0]), float(far[1])),
        ideal=(float(low[0]), float(low[1])),
        says=f"reference: 5 % beyond the worst of all points on each axis; ideal: the best of all points on each axis ({missing})",
    )


def hypervolumes(frames: Frames, cost: Metric, quality: Metric, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Each series' hypervolume as a share of the box, with two bootstrap intervals.

    Over seeds: the seeds of every budget are drawn anew, their medians make the front; a series of one seed has none, and says NaN. Over
    budgets: the budgets are drawn anew, which tells how much hangs on single points; leaving points out can only lose area, so this one
    lies below the value. Percentile intervals of LEVEL. The same arguments give the same numbers.

    Columns: series, method, cost, quality, budgets, seeds, hypervolume (in the axes' units), share, seeds_low, seeds_high, budgets_low,
    budgets_high (shares), reference_cost, reference_quality, box.
    """
    box = reference_box(frames, cost, quality)
    rows: list[dict[str, object]] = []
    runs = frames.runs if box else frames.runs.iloc[:0]
    for series, group in runs[~runs["method"].isin(["float", "uniform"])].groupby("series", sort=False):
        assert box is not None
        budgets = [
            np.column_stack([part[cost.column], sign(quality) * part[quality.column]])
            for _, part in group.dropna(subset=[cost.column, quality.column]).groupby("budget_id", sort=False)
        ]
        if not budgets:
            continue
        medians = np.array([np.median(part, axis=0) for part in budgets])
        area = float(hypervolume(medians, box.reference))
        rng = np.random.default_rng([seed, len(rows)])
        over_seeds = (math.nan, math.nan)
        if any(len(part) > 1 for part in budgets):
            drawn = [np.median(part[rng.integers(len(part), size=(resamples, len(part)))], axis=1) for part in budgets]
            over_seeds = _interval(hypervolume(np.stack(drawn, axis=1), box.reference))
        over_budgets = (math.nan, math.nan)
        if len(budgets) > 1:
            drawn_budgets = medians[rng.integers(len(medians), size=(resamples, len(medians)))]
            over_budgets = _interval(hypervolume(drawn_budgets, box.reference))
        rows.append(
            {
                "series": series,
                "method": group["method"].iloc[0],
                "cost": cost.column,
                "quality": quality.column,
                "budgets": len(budgets),
                "seeds": max(len(part) for part in budgets),
                "hypervolume": area,
                "share": area / box.area if box.area > 0 else math.nan,
                "seeds_low": over_seeds[0] / box.area,
                "seeds_high": over_seeds[1] / box.area,
                "budgets_low": over_budgets[0] / box.area,
                "budgets_high": over_budgets[1] / box.area,
                "reference_cost": box.reference[0],
                "reference_quality": sign(quality) * box.reference[1],
                "box": box.says,
            }
        )
    return pd.DataFrame(rows)


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def dominance(points: pd.DataFrame, quality: Metric) -> pd.DataFrame:
    """For each ordered pair of series: at how many of the budgets both were given the first one's median quality is better.

    Columns: series, against, quality, budgets (shared), better, equal, worse, share (better + equal/2, of the shared), clearly_better
    (the first one's worst seed beats the other's best).
    """
    rows = []
    column = quality.column
    usable = points[~points["method"].isin(["float", "uniform"])]
    usable = usable.dropna(subset=[column]) if column in usable else usable.iloc[:0]
    usable = usable.assign(median=sign(quality) * usable.get(column, math.nan))
    ends = [sign(quality) * usable.get(f"{column}:{end}", math.nan) for end in ("low", "high")]
    usable = usable.assign(best=np.minimum(*ends), worst=np.maximum(*ends))
    names = list(dict.fromkeys(usable["series"]))
    for one in names:
        for other in names:
            if one == other:
                continue
            pair = (usable[usable["series"] == name] for name in (one, other))
            both = pd.merge(*pair, on="budget_id", suffixes=("", ":other"))
            count = len(both)
            better = int((both["median"] < both["median:other"]).sum())
            equal = int((both["median"] == both["median:other"]).sum())
            rows.append(
                {
                    "series": one,
                    "against": other,
                    "quality": column,
                    "budgets": count,
                    "better": better,
                    "equal": equal,
                    "worse": count - better - equal,
                    "share": (better + equal / 2) / count if count else math.nan,
                    "clearly_better": int((both["worst"] < both["best:other"]).sum()),
                }
            )
    return pd.DataFrame(rows, columns=DOMINANCE_COLUMNS)


DOMINANCE_COLUMNS = ["series", "against", "quality", "budgets", "better", "equal", "worse", "share", "clearly_better"]
