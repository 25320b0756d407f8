"""The choice that a repair takes: by KL where the loss cannot tell, by the loss where it can."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("transformers")

from dmx.calibration import Calibration, Column
from dmx.decisions import decision_space
from dmx.refinement import MEASURED_AT_ONCE, Measure
from dmx.relax import RelaxedModel
from dmx.repair import TOP, best_of
from dmx.text import TokenText

if TYPE_CHECKING:
    from dmx.models import LoadedModel

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
WINDOWS = MEASURED_AT_ONCE
SPREAD = np.tile([1.0, -1.0], WINDOWS // 2)
ERROR = SPREAD.std(ddof=1) / WINDOWS**0.5


def taken(
    llama: LoadedModel,
    text: TokenText,
    gains: dict[str, float],
    kl: dict[str, float],
    share: float,
    order: tuple[str, ...],
    loss: str = "shrunk",
) -> str:
    """Args: gains: by how many standard errors each one's loss is lower than the loss of one that gains 0, whose windows do not vary."""
    space = decision_space(llama, FORMATS)
    linears = llama.linears
    model = RelaxedModel({name: linears[name] for name in space.layers}, space.formats)
    calibration = Calibration(llama, TokenText(name="words", sha256=text.sha256, windows=text.windows[:1].repeat(WINDOWS, 1)), loss)
    calibration.share = share
    candidates, known = {}, {}
    for i, name in enumerate(order):
        candidates[name] = np.full(len(space.decisions), i)
        told = np.full((WINDOWS, len(Column)), kl[name])
        told[:, Column.LOSS] = (SPREAD - gains[name] * ERROR) if gains[name] else 0.0
        told = told[:, [Column.LOSS, Column.LOSS]] if loss == "ce" else told
        known[".".join(map(str, candidates[name]))] = told.tolist()
    return best_of(candidates, Measure(space, model, calibration, known))


@pytest.mark.parametrize("order", list(permutations(("near", "far", "lucky"))))
@pytest.mark.parametrize(
    ("gain", "share", "expected"), [(0.5, 0.3, "near"), (1.6, 0.3, "near"), (1.8, 0.3, "lucky"), (0.9, 1.0, "near"), (1.1, 1.0, "lucky")]
)
def test_the_least_kl_is_taken_unless_a_loss_is_lower_by_two_standard_errors_less_the_share(
    llama: LoadedModel, text: TokenText, order: tuple[str, ...], gain: float, share: float, expected: str
) -> None:
    gains, kl = {"near": 0.0, "far": -3.0, "lucky": gain}, {"near": 0.01, "far": 0.03, "lucky": 0.02}
    assert taken(llama, text, gains, kl, share, order) == expected


@pytest.mark.parametrize(
    ("gain", "kl", "expected"), [(1.9, 0.03, TOP), (2.1, 0.03, "cheaper"), (0.1, 0.01, "cheaper"), (-0.1, 0.01, TOP), (0.1, 0.02, TOP)]
)
def test_the_ladders_top_gives_way_to_what_is_plainly_better(
    llama: LoadedModel, text: TokenText, gain: float, kl: float, expected: str
) -> None:
    assert taken(llama, text, {TOP: 0.0, "cheaper": gain}, {TOP: 0.02, "cheaper": kl}, 0.3, (TOP, "cheaper")) == expected


@pytest.mark.parametrize(("ahead", "expected"), [(1.6, "first"), (1.8, "second")])
def test_what_displaced_the_top_gives_way_like_any_other(llama: LoadedModel, text: TokenText, ahead: float, expected: str) -> None:
    order, kl = (TOP, "first", "second"), {TOP: 0.01, "first": 0.02, "second": 0.03}
    gains = {TOP: -9.0, "first": 0.0, "second": ahead}
    assert taken(llama, text, gains, kl, 0.3, order) == expected


def test_without_kl_the_first_is_taken_unless_another_is_plainly_better(llama: LoadedModel, text: TokenText) -> None:
    for gain, expected in ((0.9, "first"), (1.1, "second")):
        gains, order = {"first": 0.0, "second": gain}, ("first", "second")
        assert taken(llama, text, gains, {"first": 0.0, "second": 0.0}, 1.0, order, "ce") == expected
