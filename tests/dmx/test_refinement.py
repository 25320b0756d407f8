"""Exchanges: only within the budgets, best foretold first; each choice is measured once."""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from dmx import refinement
from dmx.budget import Budget, Constraint, Scenario, constraints
from dmx.calibration import Calibration, Column
from dmx.decisions import decision_space
from dmx.refinement import FRUITLESS, KEPT, MEASURED_AT_ONCE, TRIALS, Choice, Measure, _exchanges, _look_near, refine
from dmx.relax import RelaxedModel
from dmx.secants import Secants
from dmx.text import TokenText

if TYPE_CHECKING:
    from dmx.models import LoadedModel

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")


@pytest.mark.parametrize("bits", ["bits=4.5", "bits=6", "bits=8"])
def test_exchanges_stay_within_the_budget_and_change_at_most_two(llama: LoadedModel, bits: str) -> None:
    space = decision_space(llama, FORMATS)
    limits = constraints([Budget.parse(bits, Scenario())], space, llama.shape)
    random = np.random.default_rng(0)
    scores = random.standard_normal((len(space.decisions), len(space.pairs)))
    choice = limits[0].costs.argmin(1)
    choice[0] = 1 if limits[0].is_met(np.r_[1, choice[1:]]) else choice[0]
    gains = []
    here = np.arange(len(choice))
    for trial in islice(_exchanges(choice, scores, limits), 64):
        assert limits[0].is_met(trial)
        assert 1 <= (trial != choice).sum() <= 2
        gains.append(scores[here, trial].sum() - scores[here, choice].sum())
    assert gains
    assert max(gains) < 0
    assert gains == sorted(gains)


def test_exchanges_are_all_changes_of_one_or_two_that_gain_and_fit() -> None:
    """In tenths, whose sums are rounded: a budget met to the end is met."""
    random = np.random.default_rng(1)
    budgets = [Budget(kind="bits", amount=amount) for amount in (1.4, 1.6)]
    limits = [Constraint(budget=one, costs=random.integers(1, 9, (3, 4)) / 10, fixed=0.1, limit=one.amount, wide=1.0) for one in budgets]
    scores = random.standard_normal((3, 4))
    here = np.arange(3)
    met = [np.array(c) for c in product(range(4), repeat=3) if all(one.is_met(np.array(c)) for one in limits)]
    for start in met:
        gains = {tuple(c): scores[here, c].sum() - scores[here, start].sum() for c in met if 1 <= (c != start).sum() <= 2}
        expected = sorted((gain, c) for c, gain in gains.items() if gain < 0)
        assert [tuple(trial) for trial in _exchanges(start, scores, limits)] == [c for _, c in expected]


def test_there_is_no_exchange_where_nothing_is_foretold_to_gain(llama: LoadedModel) -> None:
    space = decision_space(llama, FORMATS)
    limits = constraints([Budget.parse("bits=6", Scenario())], space, llama.shape)
    scores = np.ones((len(space.decisions), len(space.pairs)))
    assert not list(_exchanges(limits[0].costs.argmin(1), scores, limits))


def test_what_is_plainly_worse_is_given_up_early_and_nothing_is_measured_twice(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = decision_space(llama, FORMATS)
    linears = llama.linears
    model = RelaxedModel({name: linears[name] for name in space.layers}, space.formats)
    windows = text.windows[:16].repeat(3, 1)
    calibration = Calibration(llama, TokenText(name="words", sha256=text.sha256, windows=windows), "ce")
    low, high = (np.full(len(space.decisions), pair) for pair in (0, len(space.pairs) - 1))
    seen: list[int] = []
    measured = calibration.measured
    monkeypatch.setattr(calibration, "measured", lambda index: (seen.append(len(index)), measured(index) + 10.0 * plainly[0])[1])
    plainly = [0.0]
    with model:
        measure = Measure(space, model, calibration)
        whole = measure(high)
        assert sum(seen) == len(windows)
        plainly[0] = 1.0
        assert measure.race(low, high) == (False, MEASURED_AT_ONCE / len(windows))
        assert sum(seen) == len(windows) + MEASURED_AT_ONCE
        assert measure.race(low, high) == (False, MEASURED_AT_ONCE / len(windows))
        assert sum(seen) == len(windows) + MEASURED_AT_ONCE
        plainly[0] = 0.0
        assert measure(high) == whole
        better = Measure(space, model, calibration, {".".join(map(str, low)): [(100.0, 0.0)] * len(windows)})
        assert better.race(high, low) == (True, 1.0)


@pytest.mark.parametrize("errors", [1.0, 1.4, 2.0])
@pytest.mark.parametrize(
    ("loss", "kl", "expected"),  # by how many standard errors more than asked for each is lower; None where it differs by so little
    [(0.1, -9.0, True), (-0.1, -9.0, False), (None, 0.1, True), (None, -0.1, False), (-9.0, 0.1, False), (-0.1, 0.1, True)],
)
def test_a_choice_is_better_beyond_so_many_standard_errors(
    llama: LoadedModel, text: TokenText, errors: float, loss: float | None, kl: float, expected: bool
) -> None:
    space = decision_space(llama, FORMATS)
    linears = llama.linears
    model = RelaxedModel({name: linears[name] for name in space.layers}, space.formats)
    calibration = Calibration(llama, TokenText(name="words", sha256=text.sha256, windows=text.windows[:1].repeat(16, 1)), "ce")
    low, high = (np.full(len(space.decisions), pair) for pair in (0, len(space.pairs) - 1))
    spread = np.tile([1.0, -1.0], 8)
    error = spread.std(ddof=1) / 4
    told = np.empty((16, len(Column)))
    told[:, Column.LOSS] = spread - (0.01 if loss is None else errors + loss) * error
    told[:, Column.KL] = spread - (errors + kl) * error
    known = {".".join(map(str, low)): [(0.0, 0.0)] * 16, ".".join(map(str, high)): told.tolist()}
    measure = Measure(space, model, calibration, known)
    assert measure.is_better(high, low, errors) is expected
    assert measure.has_less_kl(high, low) is (errors + kl > 0)


def test_less_kl_is_told_from_the_first_windows_where_it_is_plainly_more(llama: LoadedModel, text: TokenText) -> None:
    space = decision_space(llama, FORMATS)
    linears = llama.linears
    model = RelaxedModel({name: linears[name] for name in space.layers}, space.formats)
    windows = 3 * MEASURED_AT_ONCE
    calibration = Calibration(llama, TokenText(name="words", sha256=text.sha256, windows=text.windows[:1].repeat(windows, 1)), "kl")
    low, high = (np.full(len(space.decisions), pair) for pair in (0, len(space.pairs) - 1))
    plainly = np.linspace(0.5, 1.5, MEASURED_AT_ONCE)
    known = {
        ".".join(map(str, low)): np.zeros((windows, len(Column))).tolist(),
        ".".join(map(str, high)): np.stack([-plainly, plainly], -1).tolist(),  # of the first windows alone: more KL, less loss
    }
    measure = Measure(space, model, calibration, known)
    assert not measure.has_less_kl(high, low)
    assert len(known[".".join(map(str, high))]) == MEASURED_AT_ONCE
    known[".".join(map(str, high))] += [(0.0, -9.0)] * (windows - MEASURED_AT_ONCE)
    assert not measure.has_less_kl(high, low)  # given up all the same
    assert measure.race(high, low) == (True, 1.0)


def refined(model: LoadedModel, text: TokenText, measurements: int, share: float = 1.0) -> tuple[Choice, Choice, int]:
    """Where a refinement starts, where it ends, and how many exchanges it took."""
    space = decision_space(model, FORMATS)
    limits = constraints([Budget.parse("bits=6", Scenario())], space, model.shape)
    calibration = Calibration(model, text, "shrunk")
    calibration.share = share
    start, secants = limits[0].costs.argmin(1), Secants.empty(len(space.layers), len(space.formats) - 1)
    with RelaxedModel({name: model.linears[name] for name in space.layers}, space.formats) as relaxed:
        end, exchanges = refine(
            start,
            space,
            limits,
            relaxed,
            calibration,
            Measure(space, relaxed, calibration),
            secants,
            measurements=measurements,
            batch_windows=2,
            seed=0,
            save=lambda: None,
            progress=False,
        )
    assert not secants.sums.any()  # the search's are left as they are
    return start, end, exchanges


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_exchanges_take_one_to_two_standard_errors(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    asked = []
    monkeypatch.setattr(Measure, "race", lambda _, choice, than, errors: (asked.append(errors), (False, 1.0))[1])
    refined(llama, text, 2, share)
    assert set(asked) == {1.0 + share}


def test_fruitless_looks_in_a_row_end_it(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[Choice] = []
    taken = [FRUITLESS * TRIALS - 1]  # the last before it would have ended
    monkeypatch.setattr(Measure, "race", lambda _, choice, than, errors: (len(trials) in taken, (trials.append(choice), 0.01)[1]))
    monkeypatch.setattr(Measure, "__call__", lambda *_: 0.0)
    start, end, exchanges = refined(llama, text, 1000)
    assert exchanges == 1
    assert np.array_equal(end, trials[taken[0]])
    assert len(trials) == 2 * FRUITLESS * TRIALS
    trials.clear()
    taken.clear()
    start, end, exchanges = refined(llama, text, 1000)
    assert exchanges == 0
    assert np.array_equal(end, start)
    assert len(trials) == FRUITLESS * TRIALS


def test_a_race_is_given_up_at_one_standard_error(llama: LoadedModel, text: TokenText) -> None:
    space = decision_space(llama, FORMATS)
    model = RelaxedModel({name: llama.linears[name] for name in space.layers}, space.formats)
    windows = 3 * MEASURED_AT_ONCE
    calibration = Calibration(llama, TokenText(name="words", sha256=text.sha256, windows=text.windows[:1].repeat(windows, 1)), "ce")
    low, high = (np.full(len(space.decisions), pair) for pair in (0, len(space.pairs) - 1))
    spread = np.tile([1.0, -1.0], MEASURED_AT_ONCE // 2)
    error = spread.std(ddof=1) / MEASURED_AT_ONCE**0.5
    first = np.stack([spread + 1.5 * error] * 2, -1)
    known = {".".join(map(str, low)): np.zeros((windows, len(Column))).tolist(), ".".join(map(str, high)): first.tolist()}
    assert Measure(space, model, calibration, known).race(high, low) == (False, 1 / 3)
    assert len(known[".".join(map(str, high))]) == MEASURED_AT_ONCE
    gains = np.r_[-spread - 0.5 * error, np.full(windows - MEASURED_AT_ONCE, 9.0)]  # by half of one at first: it goes on
    known[".".join(map(str, high))] = np.stack([-gains, -gains], -1).tolist()
    assert Measure(space, model, calibration, known).race(high, low) == (True, 1.0)


def test_what_is_given_up_early_counts_in_part(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[Choice] = []
    monkeypatch.setattr(Measure, "race", lambda _, choice, *__: (False, (trials.append(choice), 0.25)[1]))
    refined(llama, text, 2)
    assert len(trials) == 8


def test_what_was_tried_against_a_choice_is_not_tried_again_until_another_is_taken(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    foretold = [np.full(len(llama.linears), pair) for pair in (1, 2)]
    monkeypatch.setattr(refinement, "_exchanges", lambda *_: iter(foretold))
    trials: list[int] = []
    monkeypatch.setattr(Measure, "race", lambda _, choice, *__: (len(trials) == 1, (trials.append(int(choice[0])), 0.01)[1]))
    monkeypatch.setattr(Measure, "__call__", lambda *_: 0.0)
    *_, exchanges = refined(llama, text, 1000)
    assert exchanges == 1
    assert trials == [1, 2, 1, 2]  # the second is taken; both once more against it


def test_a_look_adds_to_what_was_seen_before(llama: LoadedModel, text: TokenText) -> None:
    space = decision_space(llama, FORMATS)
    seen = Secants.empty(len(space.layers), 1)
    seen.add(torch.full((len(space.layers), 2, 1), 0.5), torch.ones(len(space.layers), 2, 1), weight=10.0)
    with RelaxedModel({name: llama.linears[name] for name in space.layers}, space.formats) as model:
        _look_near(seen, np.zeros(len(space.decisions), np.int64), space, model, Calibration(llama, text, "ce"), 2, 0)
    assert seen.sums[0].eq(KEPT * 10.0 + 2).all()


def test_each_look_is_at_two_batches_of_windows_of_its_own(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[int]] = []
    sample = Calibration.sample

    def drawn(self: Calibration, *given: int) -> torch.Tensor:
        looks.append(sample(self, *given).tolist())
        return torch.tensor(looks[-1])

    monkeypatch.setattr(Calibration, "sample", drawn)
    monkeypatch.setattr(Measure, "race", lambda *_: (False, 0.01))
    refined(llama, text, 1000)
    assert [len(index) for index in looks] == [4] * FRUITLESS  # of batches of two
    assert looks[0] != looks[1]
