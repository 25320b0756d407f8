"""Fronts, hypervolume and dominance: by hand, by definition, and against the moocore package."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from analysis.frames import frames_of
from analysis.names import COSTS, KL, PERPLEXITY, Metric
from analysis.page.charts import tip
from analysis.pareto import _interval, dominance, front, hypervolume, hypervolumes, points_table, reference_box
from analysis.records import read_results
from analysis.views import view
from tests.analysis.make_records import FLOAT_PERPLEXITY, write_folder

coordinates = st.integers(0, 12).map(float) | st.floats(0, 12)
point_sets = st.integers(1, 24).flatmap(lambda count: stn.arrays(np.float64, (count, 2), elements=coordinates))


def dominated(points: np.ndarray, index: int) -> bool:
    """By the definition: another point is nowhere worse and somewhere better."""
    return any((other <= points[index]).all() and (other < points[index]).any() for other in points)


@given(point_sets)
def test_the_front_is_what_nothing_dominates(points: np.ndarray) -> None:
    assert front(points).tolist() == [not dominated(points, index) for index in range(len(points))]


@given(point_sets)
@settings(deadline=None)
def test_hypervolume_and_front_equal_moocore(points: np.ndarray) -> None:
    moocore = pytest.importorskip("moocore")
    reference = (10.0, 11.0)
    assert float(hypervolume(points, reference)) == pytest.approx(
        float(moocore.hypervolume(points, ref=list(reference))), rel=1e-12, abs=1e-12
    )
    assert front(points).tolist() == moocore.is_nondominated(points, keep_weakly=True).tolist()


def test_hypervolume_by_hand() -> None:
    points = np.array([[1.0, 3.0], [2.0, 1.0], [2.0, 2.0], [5.0, 0.0], [0.0, 9.0], [math.nan, 0.0]])
    # to (4, 4): (1,3) owns 3 x 1, (2,1) owns 2 x 2; the rest is dominated, beyond the reference, or no number
    assert hypervolume(points, (4.0, 4.0)) == 7.0
    assert hypervolume(np.empty((0, 2)), (4.0, 4.0)) == 0.0
    assert hypervolume(np.array([[4.0, 1.0]]), (4.0, 4.0)) == 0.0


@given(point_sets)
def test_stacks_of_fronts_give_each_front_its_own(points: np.ndarray) -> None:
    together = hypervolume(np.stack([points, points[::-1]]), (10.0, 11.0))
    alone = float(hypervolume(points, (10.0, 11.0)))
    assert together == pytest.approx([alone, alone], rel=1e-12, abs=1e-12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("sweep"), methods=("dmx", "kl", "first_last"), seeds=3)


def test_points_are_medians_with_their_range(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    points = points_table(frames, ["perplexity", "bits_with_scales"])
    point = points[(points["series"] == "dMX") & (points["budget"] == "bits=5.0")].iloc[0]
    values = sorted(frames.runs[(frames.runs["series"] == "dMX") & (frames.runs["budget"] == "bits=5.0")]["perplexity"])
    assert [point["perplexity:low"], point["perplexity"], point["perplexity:high"]] == values
    assert point["seeds"] == 3
    assert frames.runs.set_index("key").loc[point["key"], "perplexity"] == values[1]


def test_the_box_comes_from_the_references(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    box = reference_box(frames, COSTS[0], PERPLEXITY)
    assert box is not None
    uniform = frames.runs[frames.runs["series"] == "uniform MXFP4"].iloc[0]
    assert box.reference == (8.25, uniform["perplexity"])
    assert box.ideal == (4.25, FLOAT_PERPLEXITY)
    accuracy = Metric(column="accuracy:blimp", title="", short="", higher_is_better=True)
    turned = reference_box(frames, COSTS[0], accuracy)
    assert turned is not None
    assert turned.reference[1] == -uniform["accuracy:blimp"]


def test_intervals_hold_the_value_and_repeat(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    table = hypervolumes(frames, COSTS[0], KL, resamples=300).set_index("series")
    again = hypervolumes(frames, COSTS[0], KL, resamples=300).set_index("series")
    assert table.equals(again)
    own = table.loc["dMX"]
    assert own["seeds_low"] <= own["share"] <= own["seeds_high"]
    assert math.isnan(table.loc["KL", "seeds_low"])
    assert (table["budgets_low"] <= table["share"]).all()
    assert (table["budgets_high"] <= table["share"] + 1e-12).all()
    assert table.loc["dMX", "share"] > table.loc["first/last high", "share"]


def test_dominance_counts_every_shared_budget(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    points = points_table(frames, ["perplexity"])
    table = dominance(points, PERPLEXITY)
    assert set(table["budgets"]) == {5}
    assert (table["better"] + table["equal"] + table["worse"] == table["budgets"]).all()
    rows = table.set_index(["series", "against"])
    for one, other in (("dMX", "KL"), ("dMX", "first/last high")):
        assert rows.loc[(one, other), "better"] == rows.loc[(other, one), "worse"]
        assert rows.loc[(one, other), "share"] == pytest.approx(1 - rows.loc[(other, one), "share"])
        assert rows.loc[(one, other), "clearly_better"] <= rows.loc[(one, other), "better"]


def test_a_seed_without_a_value_is_not_counted(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    at_five = (frames.runs["series"] == "dMX") & (frames.runs["budget"] == "bits=5.0")
    for lost, told in ((1, "over 2 of 3 seeds)"), (2, " (1 of 3 seeds)")):
        runs = frames.runs.copy()
        runs.loc[runs[at_five].index[:lost], "perplexity"] = math.nan
        fewer = replace(frames, runs=runs)
        points = points_table(fewer, ["perplexity", "bits_with_scales"])
        point = points[(points["series"] == "dMX") & (points["budget"] == "bits=5.0")].iloc[0]
        assert (point["seeds"], point["perplexity:seeds"], point["bits_with_scales:seeds"]) == (3, 3 - lost, 3)
        drawn = view(fewer, points, PERPLEXITY, COSTS[0])
        (mark,) = (mark for mark in drawn.lines[0].marks if mark.budget == "bits=5.0")
        assert mark.seeds == 3 - lost
        assert told in tip(drawn, drawn.lines[0], mark)
        (whole,) = (mark for mark in drawn.lines[0].marks if mark.budget == "bits=6.0")
        assert "over 3 seeds)" in tip(drawn, drawn.lines[0], whole)


@pytest.mark.parametrize(("perplexities", "place"), [([9.0, 8.0], 1), ([8.0, 9.0], 0), ([7.0, 9.0, 8.0], 2), ([4.0, 1.0, 3.0, 2.0], 3)])
def test_the_run_of_lower_median_stands_for_the_point(folder: Path, perplexities: list[float], place: int) -> None:
    frames = frames_of(read_results(folder))
    runs = pd.concat([frames.runs[frames.runs["method"] == "dmx"].iloc[:1]] * len(perplexities), ignore_index=True)
    runs = runs.assign(perplexity=perplexities, seed=range(len(perplexities)), key=[str(seed) for seed in range(len(perplexities))])
    assert points_table(replace(frames, runs=runs), ["perplexity"])["key"].item() == str(place)


@pytest.mark.parametrize(("other", "clearly"), [((2.5, 3.0, 4.0), 0), ((3.0, 3.5, 4.0), 0), ((3.5, 3.7, 4.0), 1)])
def test_clearly_better_is_the_worst_seed_below_the_other_s_best(other: tuple[float, ...], clearly: int) -> None:
    for metric in (PERPLEXITY, Metric(column="perplexity", title="", short="", higher_is_better=True)):
        rows = [
            {"series": name, "method": "dmx", "budget_id": "bits=5", "perplexity:low": low, "perplexity": middle, "perplexity:high": high}
            for name, (low, middle, high) in (("one", (1.0, 2.0, 3.0)), ("other", other))
        ]
        table = dominance(pd.DataFrame(rows), metric).set_index("series")
        better = "other" if metric.higher_is_better else "one"
        assert table["better"].sum() == 1
        assert table.loc[better, "better"] == 1
        assert table.loc[better, "clearly_better"] == clearly
        assert table["clearly_better"].sum() == clearly


def test_intervals_leave_a_fortieth_out_on_each_side() -> None:
    values = np.random.default_rng(3).permutation(1001).astype(float)
    assert _interval(values) == pytest.approx((25.0, 975.0))
    assert _interval(values) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_a_box_of_all_points_has_its_reference_a_twentieth_out(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    runs = pd.DataFrame({"method": "dmx", "bits_with_scales": [4.0, 6.0, 5.0], "perplexity": [10.0, 8.0, 9.0]})
    box = reference_box(replace(frames, runs=runs), COSTS[0], PERPLEXITY)
    assert box is not None
    assert box.reference == pytest.approx((6.1, 10.1))
    assert box.ideal == (4.0, 8.0)


def test_the_box_says_why_it_is_not_between_uniform_and_float(folder: Path) -> None:
    frames = frames_of(read_results(folder))
    box = reference_box(frames, COSTS[0], PERPLEXITY)
    assert box is not None
    assert "5 %" not in box.says
    runs = frames.runs.copy()
    runs.loc[runs["method"] == "float", "perplexity"] = 99.0
    box = reference_box(replace(frames, runs=runs), COSTS[0], PERPLEXITY)
    assert box is not None
    assert "no uniform format is worse than float here" in box.says
    box = reference_box(replace(frames, runs=runs[runs["method"] != "float"]), COSTS[0], PERPLEXITY)
    assert box is not None
    assert "no two uniform formats and float to measure from" in box.says
