"""The published method's own numbers: squash, slopes, temperatures and the optimiser's step, as its paper states them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.annealing import Schedule, degrees, harden, slopes  # noqa: E402
from dmx.budget import Budget, constraints  # noqa: E402
from dmx.calibration import Calibration  # noqa: E402
from dmx.decisions import decision_space  # noqa: E402
from dmx.models import LoadedModel  # noqa: E402
from dmx.relax import RelaxedModel  # noqa: E402
from dmx.search_config import PAPER  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from dmx.training import Training  # noqa: E402

PAPER_SCHEDULE = Schedule(steps=400)


@pytest.mark.parametrize(("offset", "beta"), [(0.0, 0.036), (0.5, 0.238), (1.0, 1.0), (2.0, 1.964)])
def test_the_squash_at_the_first_temperature(offset: float, beta: float) -> None:
    """beta = 2 sigmoid(8 (b/2 - 1/2)); both operands' bits slide by it, a degree being half of it."""
    assert 2 * degrees(torch.tensor([offset]), 1, PAPER_SCHEDULE.sharpness(0)).item() == pytest.approx(beta, abs=5e-4)


@pytest.mark.parametrize(("offset", "slope"), [(0.0, 0.141), (1.0, 2.0)])
def test_a_layer_at_the_start_is_fourteen_times_as_stiff_as_one_in_the_middle(offset: float, slope: float) -> None:
    sharpness = PAPER_SCHEDULE.sharpness(0)
    found = 2 * slopes(degrees(torch.tensor([offset]), 1, sharpness), sharpness)
    assert found.item() == pytest.approx(slope, abs=5e-4)


def test_the_temperature_is_held_and_then_rises_fiftyfold() -> None:
    """tau = 0.4 for the first 60 % of the steps, then 0.4 * 50^(i/(n-1)): k = 20 tau from 8 to 400."""
    taus = [PAPER_SCHEDULE.temperature(step) for step in range(400)]
    assert taus[:240] == [0.4] * 240
    assert taus[240:] == pytest.approx([0.4 * 50 ** (i / 159) for i in range(160)], rel=1e-12)
    assert 2 * PAPER_SCHEDULE.sharpness(0) == pytest.approx(8)
    assert 2 * PAPER_SCHEDULE.sharpness(399) == pytest.approx(400)
    assert (PAPER.steps, PAPER.level, PAPER.hold, PAPER.rise) == (400, 0.4, 0.6, 50.0)


def test_an_offset_ends_high_above_one() -> None:
    assert harden(torch.tensor([0.0, 1.0, 1.0001, 2.0]), 1).tolist() == [0, 0, 1, 1]


def test_offsets_descend_as_torchs_sgd_with_nesterovs_momentum(llama: LoadedModel, text: TokenText) -> None:
    """Learning rate 1, momentum 0.99, gradients of norm at most 1; offsets and momentum in float32."""
    assert (PAPER.optimizer, PAPER.learning_rate, PAPER.momentum, PAPER.gradient_clip) == ("sgd", 1.0, 0.99, 1.0)
    space = decision_space(llama, PAPER.formats, apart=PAPER.apart)
    limits = constraints([Budget.parse("bits=5")], space, llama.shape)
    relaxed = RelaxedModel({name: llama.linears[name] for name in space.layers}, PAPER.formats, relaxation=PAPER.relaxation)
    training = Training(space, limits, relaxed, Calibration(llama, text, PAPER.loss), PAPER, None)
    assert training.state.offsets.tolist() == [[0.0]] * len(space.decisions)
    theirs = torch.nn.Parameter(torch.zeros_like(training.state.offsets))
    sgd = torch.optim.SGD([theirs], lr=1.0, momentum=0.99, nesterov=True)
    for step in range(20):
        pull = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(step)) * 10.0 ** (step % 3 - 2)
        theirs.grad = pull.clone()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        sgd.step()
        training._descend(pull, step)
        torch.testing.assert_close(training.state.offsets, theirs.detach(), rtol=1e-5, atol=1e-6)
    assert training.state.offsets.dtype == training.state.moments[0].dtype == torch.float32
