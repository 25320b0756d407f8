"""Predictions kept whole or in part: the divergence, its gradient, and losses made of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers")

import torch

from dmx.calibration import Calibration
from dmx.predictions import Predictions, divergence, likeliest, target
from dmx.relax import RelaxedModel
from dmx.searching import search

if TYPE_CHECKING:
    from dmx.models import LoadedModel
    from dmx.text import TokenText

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
PLACES, VOCABULARY = 7, 50


def random_logs(seed: int, spread: float = 2.0) -> torch.Tensor:
    return (spread * torch.randn(3, PLACES, VOCABULARY, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def in_part(logs: torch.Tensor, monkeypatch: pytest.MonkeyPatch, count: int) -> Predictions:
    monkeypatch.setattr("dmx.predictions.WHOLE_BYTES", 0)
    monkeypatch.setattr("dmx.predictions.LIKELIEST", count)
    return Predictions.kept(logs.split(2), len(logs))


def merged(logs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(places, kept + 1) float64 probabilities, the others as one: by a loop."""
    rows = []
    for place, named in zip(logs.double().exp(), tokens.tolist(), strict=True):
        others = [i for i in range(VOCABULARY) if i not in named]
        rows.append(torch.cat([place[named], place[others].sum()[None]]))
    return torch.stack(rows)


@pytest.mark.parametrize("count", [1, 5, 49])
def test_divergence_in_part_is_that_of_merged_outcomes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    ours, theirs = random_logs(1), random_logs(2)
    kept = in_part(theirs, monkeypatch, count)
    whole = (theirs.double().exp() * (theirs - ours).double()).sum(-1)
    for i in range(3):
        tokens = kept[i].tokens
        assert tokens is not None
        assert torch.equal(tokens.sort().values, theirs[i].topk(count).indices.sort().values)
        p, q = merged(theirs[i], tokens), merged(ours[i], tokens)
        found = divergence(ours[i], kept[i])
        torch.testing.assert_close(found.double(), (p * (p / q).log()).sum(-1), rtol=1e-4, atol=1e-6)
        assert bool((found <= whole[i] + 1e-6).all())
        if count == VOCABULARY - 1:  # the others are one token: nothing is merged
            torch.testing.assert_close(found.double(), whole[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 49, None])
def test_the_target_makes_the_divergences_gradient(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    theirs = random_logs(2)
    kept = Predictions.kept([theirs], 3) if count is None else in_part(theirs, monkeypatch, count)
    logits = random_logs(1)[0].double().requires_grad_()
    tokens = kept[0].tokens
    if tokens is None:
        tokens = torch.arange(VOCABULARY).expand(PLACES, -1)
    p, q = merged(theirs[0], tokens), merged(logits.log_softmax(-1), tokens)
    torch.xlogy(p, p / q).nan_to_num().sum().backward()
    logs = logits.detach().float().log_softmax(-1)
    assert logits.grad is not None
    torch.testing.assert_close((logs.exp() - target(logs, kept[0])).double(), logits.grad, rtol=1e-4, atol=1e-6)


def test_what_is_certain_divides_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    certain = torch.full((1, 2, VOCABULARY), -200.0)
    certain[..., 3] = 0.0
    kept = in_part(certain, monkeypatch, 4)
    other = random_logs(1)[0, :2]
    assert bool(torch.isfinite(divergence(other, kept[0])).all())
    assert divergence(certain[0], kept[0]).abs().max() < 1e-6
    assert bool(torch.isfinite(target(certain[0], kept[0])).all())
    torch.testing.assert_close(target(other, kept[0]).sum(-1), torch.ones(2))
    assert likeliest(certain, VOCABULARY)[0].shape[-1] == VOCABULARY + 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_losss_gradient_is_autograds(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    index = torch.tensor([3, 0, 5])
    calibration = Calibration(llama, text, "shrunk")
    calibration.share = share
    with torch.no_grad():
        expected = torch.log_softmax(llama.module(input_ids=text.windows[index]).logits[:, :-1], -1)
    logits = torch.randn(3, text.windows.shape[1], 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = torch.tensor([1.0, 2.0, -0.5])
    monkeypatch.setattr("dmx.calibration.logits_of", lambda *_: logits)
    (weights * calibration.losses(index)).sum().backward()
    closed, logits.grad = logits.grad, None
    logs = torch.log_softmax(logits[:, :-1].double(), -1)
    kl = (expected.double().exp() * (expected - logs)).sum(-1).mean(-1)
    ce = -logs.gather(-1, text.windows[index, 1:, None]).mean((1, 2))
    (weights * (kl + share * (ce - kl))).sum().backward()
    assert closed is not None
    assert logits.grad is not None
    torch.testing.assert_close(closed, logits.grad, rtol=1e-4, atol=1e-8)


def test_a_large_vocabulary_is_searched_by_its_likeliest_tokens(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = torch.arange(5)
    whole = Calibration(llama, text, "kl")
    monkeypatch.setattr("dmx.predictions.WHOLE_BYTES", 1000)
    monkeypatch.setattr("dmx.predictions.LIKELIEST", 40)
    part = Calibration(llama, text, "kl")
    with torch.no_grad(), RelaxedModel(llama.linears, FORMATS):
        less, all_ = part.losses(index), whole.losses(index)
    assert bool((less < all_).all())
    assert bool((less > 0.5 * all_).all())
    found = search(llama, "bits=5", text=text, steps=4, batch_windows=2, refine=2)
    assert found.achieved["bits"] <= 5


def test_a_models_vocabulary_is_what_its_logits_say(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(llama.module.config, "vocab_size")
    assert bool((Calibration(llama, text, "kl").losses(torch.arange(2)).abs() < 1e-6).all())
