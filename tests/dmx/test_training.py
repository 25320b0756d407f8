"""The annealed search's own steps: starts, margins, and that offsets and moments are float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from dmx.annealing import FIRST_THRESHOLD
from dmx.budget import Budget, Scenario, constraints
from dmx.calibration import Calibration
from dmx.decisions import decision_space
from dmx.errors import DmxError
from dmx.relax import RelaxedModel
from dmx.search_config import SearchConfig, preset
from dmx.secants import Secants
from dmx.training import Training

if TYPE_CHECKING:
    from dmx.models import LoadedModel
    from dmx.text import TokenText


def training_of(model: LoadedModel, text: TokenText, config: SearchConfig, budget: str | Budget = "bits=5", path: Any = None) -> Training:
    space = decision_space(model, config.formats, apart=config.apart)
    relaxed = RelaxedModel(
        {name: model.linears[name] for name in space.layers},
        space.formats,
        policy=config.policy,
        stored_dtypes=model.stored_dtypes,
        relaxation=config.relaxation,
    )
    limits = constraints([Budget.parse(budget) if isinstance(budget, str) else budget], space, model.shape)
    return Training(space, limits, relaxed, Calibration(model, text, config.loss), config, path)


def test_a_start_from_scores_puts_high_what_saves_most(llama: LoadedModel, text: TokenText) -> None:
    shape = (len(llama.linears), 2, 1)
    path = -torch.rand(shape, generator=torch.Generator().manual_seed(0))
    seen = Secants.empty(*shape[::2])
    seen.add(torch.full(shape, 0.5), path)
    training = training_of(llama, text, SearchConfig(steps=4), path=seen)
    space, offsets = training.space, training.state.offsets
    assert offsets.dtype == torch.float32
    assert offsets.shape == (len(space.decisions), 2)
    rising = offsets[(-path[:, 0, 0]).argsort(), 0]  # where costs are alike, what saves more starts no lower
    assert (rising.diff() >= 0).all()
    assert rising[0] < rising[-1]


def test_margins_order_as_offsets_do_and_stay_finite(llama: LoadedModel, text: TokenText) -> None:
    training = training_of(llama, text, SearchConfig(steps=4, start="middle", steering="two_sided", repair=False))
    training.state.offsets = torch.linspace(-60, 60, training.state.offsets.numel()).reshape(training.state.offsets.shape)
    margins = training.margins()
    assert torch.isfinite(margins).all()
    assert torch.equal((margins[..., 0] < 0).long(), torch.from_numpy(training.places()))


def test_steps_move_offsets_and_are_told(llama: LoadedModel, text: TokenText) -> None:
    for name in ("default", "paper"):
        config = preset(name).with_settings({"steps": 3, "batch_windows": 2, "start": "zero" if name == "paper" else "middle"})
        training = training_of(llama, text, config)
        before = training.state.offsets.clone()
        saved: list[int] = []
        with training.model:
            training.run(lambda state, saved=saved: saved.append(state.step), progress=False)  # type: ignore[misc]
        assert saved[-1] == 3
        assert not torch.equal(training.state.offsets, before)
        assert training.state.offsets.dtype == training.state.moments[0].dtype == torch.float32
        history = training.state.history
        assert {len(values) for values in history.values()} == {3}
        assert np.isfinite(history["loss"]).all()
        assert history["temperature"] == sorted(history["temperature"])


@pytest.mark.parametrize(("budget", "inputs_move"), [("bits=5", True), ("bytes=0.5x", False)])
def test_landing_leaves_alone_what_costs_nothing(llama: LoadedModel, text: TokenText, budget: str, inputs_move: bool) -> None:
    weights, inputs = training_of(llama, text, SearchConfig(steps=4, start="middle"), budget).state.offsets.T  # landed on the budget
    assert (weights < FIRST_THRESHOLD).all()
    assert torch.equal(inputs, weights if inputs_move else torch.full_like(inputs, FIRST_THRESHOLD))


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_offsets_land_on_a_budget_that_the_lowest_formats_exceed(llama: LoadedModel, text: TokenText, share: float) -> None:
    where = Scenario(device="b200", assume=("b200-fp4-half-fp8",))
    space = decision_space(llama, SearchConfig().formats)
    (loose,) = constraints([Budget.parse("latency=100x", where)], space, llama.shape)
    lowest = np.zeros(len(space.decisions), np.int64)
    of_top = loose.spent(lowest + len(space.pairs) - 1)
    assert loose.spent(lowest) > of_top
    limit = loose.cheapest + share * (of_top - loose.cheapest)
    training = training_of(
        llama, text, SearchConfig(steps=6, batch_windows=2, start="middle"), Budget(kind="latency", amount=limit, scenario=where)
    )
    with training.model:
        training.run(lambda _: None, progress=False)
    assert training.state.history["cost"] == pytest.approx([1.0] * 6, abs=1e-6)
    assert training.choice().min() > 0  # nothing is left at MXFP4 with MXFP4 inputs, which is dearest
    assert training.constraints[0].spent(training.choice()) <= of_top


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_offsets_beyond_float32_stay_at_its_end_and_what_is_no_number_is_refused(
    llama: LoadedModel, text: TokenText, optimizer: str
) -> None:
    settings = SearchConfig(steps=4, start="middle", steering="two_sided", repair=False, optimizer=optimizer, learning_rate=1e39)
    training = training_of(llama, text, settings)
    pull = torch.ones_like(training.state.offsets)
    training._descend(pull, 0)
    assert torch.isfinite(training.state.offsets).all()
    assert (training.state.offsets < -1e38).all()
    pull[3, 1] = float("nan")
    with pytest.raises(DmxError, match=r"step 1 moves 1 offsets by no number, the last of them 'model\.layers\.0\.self_attn\.o_proj'"):
        training._descend(pull, 1)
