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
from dmx.scores import decision_sums
from dmx.search_config import SearchConfig, preset
from dmx.secants import Secants
from dmx.training import MEMORY, REACH, Training

if TYPE_CHECKING:
    from dmx.models import LoadedModel
    from dmx.text import TokenText

LADDER = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
FREE: dict[str, Any] = {"steering": "two_sided", "repair": False, "loss": "ce"}


def training_of(model: LoadedModel, text: TokenText, config: SearchConfig, budget: str | Budget = "bits=5", path: Any = None) -> Training:
    space = decision_space(model, config.formats, tie=config.tie, apart=config.apart)
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


@pytest.mark.parametrize("start", ["middle", "zero"])
@pytest.mark.parametrize("formats", [LADDER[::2], LADDER])
@pytest.mark.parametrize("apart", [True, False])
def test_a_step_pulls_by_the_gradient_of_the_loss_and_of_a_penalty_per_bit(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, start: str, formats: tuple[str, ...], apart: bool
) -> None:
    """By autograd through the squash; q, k and v have one offset, and so do gate and up. An offset of 0 counts as positive."""
    config = SearchConfig(start=start, formats=formats, apart=apart, tie=True, batch_windows=3, seed=5, **FREE)
    training = training_of(llama, text, config)
    shape = training.state.offsets.shape
    offsets = 1.0 + torch.randn(shape, generator=torch.Generator().manual_seed(0))
    offsets[0] = 0.0
    training.state.offsets = offsets
    pulls: list[torch.Tensor] = []
    monkeypatch.setattr(training, "_descend", lambda pull, _: pulls.append(pull))
    ours = offsets.clone().requires_grad_()
    places = (torch.where(ours < 0, -ours, ours) if start == "zero" else ours)[..., None] - torch.tensor([1.0, 2.0][: len(formats) - 1])
    of_layers = torch.tensor([d for d, decision in enumerate(training.space.decisions) for _ in decision.layers])
    assert shape == (8, 1 + apart)
    soft = torch.sigmoid(4 * places).expand(-1, 2, -1)[of_layers]  # a temperature of 0.4
    bits = 4 + (soft * torch.tensor([4.0] if len(formats) == 2 else [2.0, 2.0])).sum(-1).mean()
    with training.model:
        training.step(0)
        training.model.degrees = soft
        loss = training.calibration.loss(training.calibration.sample(3, 5, 0))
        (loss + 5.0 * (bits - 5).abs()).backward()
    assert ours.grad is not None
    torch.testing.assert_close(pulls[0], ours.grad, rtol=1e-3, atol=1e-5)
    assert training.state.history["loss"] == pytest.approx([loss.item()], rel=1e-5)
    assert training.state.history["bits"] == pytest.approx([bits.item()], rel=1e-6)
    assert training.state.history["cost"] == pytest.approx([bits.item() / 5], rel=1e-6)


def test_offsets_descend_as_torchs_adam(llama: LoadedModel, text: TokenText) -> None:
    config = SearchConfig(start="middle", formats=LADDER, learning_rate=0.3, momentum=0.8, **FREE)
    training = training_of(llama, text, config)
    assert training.state.offsets.unique().tolist() == [1.5]  # between the two thresholds
    theirs = torch.nn.Parameter(training.state.offsets.clone())
    adam = torch.optim.Adam([theirs], lr=0.3, betas=(0.8, 0.95), eps=1e-12)
    for step in range(5):
        theirs.grad = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(step))
        adam.step()
        training._descend(theirs.grad, step)
        torch.testing.assert_close(training.state.offsets, theirs.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("budget", ["bits=5", "bits=8"])
def test_a_start_from_scores_weighs_what_a_step_saves_against_its_price(llama: LoadedModel, text: TokenText, budget: str) -> None:
    """14 linears; one at 8 bits more is 4 / 14 bits. At 5 bits three fit and a half: the fourth best makes the price."""
    saved = torch.linspace(0.1, 1.4, 14)
    path = -saved[:, None, None] * torch.tensor([0.75, 0.25]).reshape(1, 2, 1)
    seen = Secants.empty(14, 1)
    seen.add(torch.full((14, 2, 1), 0.5), path)
    training = training_of(llama, text, SearchConfig(apart=False, steering="two_sided"), budget, path=seen)
    limit = float(budget[5:])
    price = 1.1 * 14 / 4 * limit if limit == 5 else 1e-3 * float(saved.sum())  # where all fit, it is what it never falls below
    assert training.steering.prices.tolist() == pytest.approx([price], rel=1e-5)
    ratio = torch.log(saved / (price * 4 / 14 / limit)).clamp(-1, 1)
    torch.testing.assert_close(training.state.offsets[:, 0], 1 + REACH * ratio, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_way_and_of_the_steps_are_seen_together_the_older_ones_less(llama: LoadedModel, text: TokenText) -> None:
    path = Secants.empty(14, 1)
    path.add(torch.full((14, 2, 1), 0.5), -torch.ones(14, 2, 1), weight=7.0)
    training = training_of(llama, text, SearchConfig(steps=2, batch_windows=3), path=path)
    with training.model:
        training.run(lambda _: None, progress=False)
    assert torch.allclose(training.state.secants.sums[0], torch.tensor((7 * MEMORY + 3) * MEMORY + 3))
    assert path.sums[0].eq(7).all()


def test_soft_degrees_are_those_of_the_last_temperature(llama: LoadedModel, text: TokenText) -> None:
    training = training_of(llama, text, SearchConfig(start="middle", steps=10, **FREE))
    training.state.offsets = torch.full_like(training.state.offsets, 1.01)
    expected = torch.sigmoid(torch.tensor(10 * 20 * 0.01))  # tau rises from 0.4 to 20
    torch.testing.assert_close(training.soft_degrees(), expected.expand(14, 2, 1), rtol=1e-4, atol=0)


def test_a_decisions_margins_make_one_offset_however_many_layers_it_has(llama: LoadedModel, text: TokenText) -> None:
    training = training_of(llama, text, SearchConfig(start="middle", tie=True, formats=LADDER, **FREE))
    training.state.offsets = torch.linspace(-1, 4, 16).reshape(8, 2)
    below = torch.tensor([1.0, 2.0]) - training.state.offsets[..., None]
    torch.testing.assert_close(decision_sums(training.space, training.margins()), below)
