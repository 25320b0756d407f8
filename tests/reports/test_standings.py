"""How a search stands among baselines, counted from records that are made here."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pandas")

from analysis.names import KL, PERPLEXITY
from analysis.records import Record
from reports.standings import NOWHERE, Plane, by_budget, standing


def record(method: str, budget: str, perplexity: float, seed: int = 0) -> Record:
    return Record(
        key=f"{method} {budget} {seed}",
        path=Path("x.json"),
        specification={"method": method, "budget": {"text": budget} if budget else None, "seed": seed},
        assignment=None,
        achieved={},
        costs=None,
        quality={"perplexity": perplexity, "kl_to_float": 1.0},
        trajectory=None,
        timing={},
        environment={},
    )


def test_budgets_come_by_kind_and_size_and_records_without_one_are_left_out() -> None:
    records = [record("kl", budget, 2.0) for budget in ("bits=10", "latency=2x", "bits=9", "bytes=0.5x", "")]
    assert list(by_budget(records)) == ["bits=9", "bits=10", "bytes=0.5x", "latency=2x"]


def test_medians_are_compared_and_neither_our_other_searches_nor_lone_ones_count() -> None:
    records = [
        *(record("dmx", "bits=4", perplexity, seed) for seed, perplexity in enumerate((9.0, 2.0, 1.0))),  # median 2
        *(record("kl", "bits=4", perplexity, seed) for seed, perplexity in enumerate((2.0, 1.0, 9.0))),  # median 2: none is lower
        record("dmx", "bits=5", 2.02),
        record("kl", "bits=5", 2.5),
        record("fisher", "bits=5", 2.0),  # lower by a hundredth: not near
        record("dmx", "bits=6", 2.004),
        record("fisher", "bits=6", 2.0),  # lower by 0.2 %: near
        record("dmx", "bits=7", 2.0),
        record("dmx_kl", "bits=7", 1.0),  # ours
    ]
    told = standing(by_budget(records), PERPLEXITY)
    assert (told.budgets, told.lowest, told.near) == (3, 1, 2)
    assert told.worst == pytest.approx(0.01)
    assert standing(by_budget(records), KL) == NOWHERE  # where dmx_kl ran, no baseline did
    both = told + told
    assert (both.budgets, both.lowest, both.near, both.worst) == (6, 2, 4, told.worst)


@pytest.mark.parametrize(
    ("shares", "is_largest"),
    [
        ({"dmx": 0.9, "kl": 0.9}, True),
        ({"dmx": 0.9, "kl": 0.9000001}, False),
        ({"dmx": 0.9, "dmx_kl": 0.95, "kl": 0.8}, True),
        ({"kl": 0.8}, False),
    ],
)
def test_an_area_is_largest_to_the_last_digit(shares: dict[str, float], is_largest: bool) -> None:
    assert Plane(quality=PERPLEXITY, cost=KL, shares=shares).is_ours_largest is is_largest
