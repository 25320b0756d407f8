"""The windows that a step looks at, and what a calibration refuses; its losses and gradients: see test_predictions and test_shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers")

import torch

from dmx.calibration import Calibration
from dmx.errors import DmxError

if TYPE_CHECKING:
    from dmx.models import LoadedModel
    from dmx.text import TokenText


def test_a_steps_windows_are_told_by_seed_and_step_alone(llama: LoadedModel, text: TokenText) -> None:
    calibration = Calibration(llama, text, "ce")
    drawn = {(seed, step): calibration.sample(6, seed, step).tolist() for seed in range(3) for step in (-2, -1, 0, 1, 2)}
    for (seed, step), index in reversed(drawn.items()):
        assert calibration.sample(6, seed, step).tolist() == index
        assert len(set(index)) == 6
    assert len(set(map(tuple, drawn.values()))) == len(drawn)
    assert sorted(calibration.sample(99, 0, 0).tolist()) == list(range(len(text.windows)))


def test_cross_entropy_keeps_no_predictions(llama: LoadedModel, text: TokenText) -> None:
    calibration = Calibration(llama, text, "ce")
    assert not calibration.has_kl
    calibration.share = 0.5
    with pytest.raises(DmxError, match="keeps no predictions of the float model"):
        calibration.loss(torch.arange(1))
    with pytest.raises(DmxError, match="loss 'mse' is none of shrunk, kl, ce"):
        Calibration(llama, text, "mse")
