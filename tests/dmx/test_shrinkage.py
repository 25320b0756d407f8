"""The share of next-token loss that is more than chance: little on text that the model itself wrote, much on text far from it."""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers")

import torch

from dmx.calibration import Calibration
from dmx.decisions import decision_space
from dmx.relax import RelaxedModel
from dmx.scores import decision_sums, degree_gradient, degree_gradients
from dmx.searching import search
from dmx.shrinkage import BEYOND_KL, GROUPS, KL, LEAST_GROUPS, next_token_share, share_beyond_chance
from dmx.text import TokenText

if TYPE_CHECKING:
    from dmx.models import LoadedModel

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
WINDOWS, CONTEXT = 64, 32


TEXTS = 8


def tokens(windows: torch.Tensor) -> TokenText:
    return TokenText(name="made", sha256="0" * 64, windows=windows)


@pytest.fixture(scope="module")
def own_words(llama: LoadedModel) -> list[TokenText]:
    """Each token drawn from the model's own distribution: KL is then the expected loss, and what is beyond it chance alone."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(64, (TEXTS * WINDOWS, 1), generator=generator)
    for _ in range(CONTEXT - 1):
        with torch.no_grad():
            last = llama.module(input_ids=ids).logits[:, -1]
        ids = torch.cat([ids, torch.multinomial(last.softmax(-1), 1, generator=generator)], 1)
    return [tokens(windows) for windows in ids.split(WINDOWS)]


@pytest.fixture(scope="module")
def unlikely_words(llama: LoadedModel) -> TokenText:
    """Each token the least likely one."""
    ids = torch.randint(64, (WINDOWS, 1), generator=torch.Generator().manual_seed(5))
    for _ in range(CONTEXT - 1):
        with torch.no_grad():
            ids = torch.cat([ids, llama.module(input_ids=ids).logits[:, -1].argmin(-1, keepdim=True)], 1)
    return tokens(ids)


def share_of(model: LoadedModel, text: TokenText, seed: int = 0) -> float:
    space, linears = decision_space(model, FORMATS), model.linears
    calibration = Calibration(model, text, "shrunk")
    relaxed = RelaxedModel({name: linears[name] for name in space.layers}, FORMATS)
    with relaxed:
        return next_token_share(space, relaxed, calibration, torch.full_like(relaxed.degrees, 0.5), 3, seed)


def told(times: int, share: float, slope: float, entries: int = 40_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Measurements of slope kl + rest, rest being normal with such a share of its mean square real; and kl."""
    generator = torch.Generator().manual_seed(2)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    means = (share / (1 - share) / times) ** 0.5 * normal(entries)
    spreads = torch.rand(entries, generator=generator, dtype=torch.float64) + 0.1
    kl = normal(entries).abs()
    return slope * kl + spreads * (means + normal(times, entries)), kl


@pytest.mark.parametrize("times", [5, 16])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_share_is_what_normal_means_should_be_shrunk_by(times: int, share: float) -> None:
    assert share_beyond_chance(*told(times, share, 0.0)) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("slope", [-0.7, 0.3, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_what_goes_along_with_kl_is_no_reason_to_count_the_rest(slope: float, share: float) -> None:
    beyond, kl = told(16, share, slope)
    found = share_beyond_chance(beyond, kl)
    likeliest = (1 + slope) * kl + share * (beyond.mean(0) - slope * kl)
    ours = kl + found * beyond.mean(0)
    cosine = float(likeliest @ ours / likeliest.norm() / ours.norm())
    assert cosine == pytest.approx(1.0, abs=1e-3)
    assert found == pytest.approx(share / (1 + slope * (1 - share)), abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_where_next_token_loss_falls_as_kl_rises_all_of_it_counts(share: float) -> None:
    assert share_beyond_chance(*told(16, share, -3.0)) == 1.0


def test_kl_too_small_to_tell_a_slope_takes_nothing_out() -> None:
    beyond, kl = told(16, 0.5, 0.0, 40)
    assert share_beyond_chance(beyond, 1e-4 * kl) == pytest.approx(share_beyond_chance(beyond, 0 * kl), abs=0.01)


def test_entries_that_never_differ_tell_nothing() -> None:
    assert share_beyond_chance(torch.ones(8, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)) == 0.0
    differing, kl = (each + 1 for each in told(8, 0.5, 0.0, 50))
    held = torch.cat([differing, torch.zeros(8, 9)], 1), torch.cat([kl, torch.ones(9)])
    assert 0 < share_beyond_chance(*held) == share_beyond_chance(differing, kl)


def test_one_entry_tells_nothing() -> None:
    assert share_beyond_chance(*told(8, 0.9, 0.0, 1)) == 0.0


def test_what_the_model_itself_wrote_is_chance(llama: LoadedModel, own_words: list[TokenText]) -> None:
    shares = [share_of(llama, text) for text in own_words]
    assert statistics.median(shares) < 0.25  # of 28 gradients: a single text may look like more
    assert min(shares) == 0.0


def test_what_it_could_not_have_written_counts(llama: LoadedModel, unlikely_words: TokenText) -> None:
    assert min(share_of(llama, unlikely_words, seed) for seed in range(3)) > 0.9


def test_too_few_windows_tell_nothing(llama: LoadedModel, unlikely_words: TokenText) -> None:
    assert share_of(llama, unlikely_words.first(LEAST_GROUPS - 1)) == 0.0
    assert share_of(llama, unlikely_words.first(LEAST_GROUPS)) > 0.0


def test_gradients_of_kl_and_of_what_is_beyond_it_are_compared(
    llama: LoadedModel, unlikely_words: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("dmx.shrinkage.share_beyond_chance", lambda *told: seen.extend(told) or 0.5)
    words = unlikely_words.first(GROUPS)
    assert share_of(llama, words) == 0.5
    beyond, kl = seen
    space, linears = decision_space(llama, FORMATS), llama.linears
    gradients = []
    calibrations = [Calibration(llama, words, loss) for loss in ("kl", "ce")]
    with RelaxedModel({name: linears[name] for name in space.layers}, FORMATS) as relaxed:
        half = torch.full_like(relaxed.degrees, 0.5)
        for calibration in calibrations:
            gradient, _ = degree_gradient(relaxed, calibration, half, torch.arange(GROUPS))
            gradients.append(decision_sums(space, gradient).flatten().double())
    assert beyond.shape == (GROUPS, *kl.shape)
    assert torch.allclose(kl, gradients[0], rtol=1e-3, atol=1e-6)
    assert torch.allclose(beyond.mean(0), gradients[1] - gradients[0], rtol=1e-3, atol=1e-5)


def test_the_seed_says_which_windows_go_together(llama: LoadedModel, unlikely_words: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[torch.Tensor] = []
    monkeypatch.setattr("dmx.shrinkage.share_beyond_chance", lambda beyond, kl: groups.append(beyond) or 0.5)
    for seed in (0, 1, 0):
        share_of(llama, unlikely_words, seed)
    first, other, again = groups
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, rtol=1e-2, atol=1e-6)
    assert torch.allclose(first.mean(0), other.mean(0), rtol=1e-3, atol=1e-6)  # of all windows, each once


@pytest.mark.parametrize("relaxation", ["mix", "monotone", "floored"])
def test_gradients_from_one_forward_pass_have_the_bits_of_each_by_itself(llama: LoadedModel, text: TokenText, relaxation: str) -> None:
    index, calibration = torch.arange(3), Calibration(llama, text, "shrunk")
    with RelaxedModel(llama.linears, FORMATS, relaxation=relaxation) as relaxed:
        degrees = torch.linspace(0.1, 0.9, relaxed.degrees.numel()).reshape(relaxed.degrees.shape)
        together = degree_gradients(relaxed, calibration, degrees, index, [BEYOND_KL, KL, BEYOND_KL])
        for parts, (gradient, loss) in zip([BEYOND_KL, KL, BEYOND_KL], together, strict=True):
            calibration.parts = parts
            alone, own = degree_gradient(relaxed, calibration, degrees, index)
            assert torch.equal(gradient, alone)
            assert loss == own


def test_the_loss_is_kl_and_a_share_of_the_rest(llama: LoadedModel, text: TokenText) -> None:
    index = torch.arange(4)
    ce, kl, both = (Calibration(llama, text, loss) for loss in ("ce", "kl", "shrunk"))
    with torch.no_grad(), RelaxedModel(llama.linears, FORMATS):
        apart = kl.losses(index), ce.losses(index)
        for share in (0.0, 0.25, 1.0):
            both.share = share
            assert torch.allclose(both.losses(index), (1 - share) * apart[0] + share * apart[1], rtol=1e-5)
            assert torch.equal(both.measured(index), torch.stack([both.losses(index), apart[0]], -1))
        beyond, all_of_kl = both.losses_of(index, [BEYOND_KL, KL])
        assert torch.allclose(beyond, apart[1] - apart[0], rtol=1e-5)
        assert torch.equal(all_of_kl, apart[0])
        assert torch.equal(ce.measured(index), torch.stack([apart[1], apart[1]], -1))
    assert torch.equal(both.losses(index), ce.losses(index))


def test_a_search_tells_its_share(llama: LoadedModel, own_words: list[TokenText], unlikely_words: TokenText) -> None:
    quick = {"steps": 4, "batch_windows": 4, "refine": 0}
    shares = [search(llama, "bits=5", text=words, **quick).search["next_token_share"] for words in (own_words[0], unlikely_words)]
    assert shares[0] < 0.6 < 0.9 < shares[1] <= 1.0
    assert search(llama, "bits=5", text=own_words[0], loss="kl", **quick).search["next_token_share"] == 0.0


def test_a_line_through_zero_takes_one_degree_of_freedom() -> None:
    """Two entries with squared t-values of 8, along nothing: their mean square is 16 / (2 - 1), of which chance is 2."""
    spread = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)[:, None]
    beyond = spread + torch.tensor([2.0, -2.0], dtype=torch.float64)
    assert share_beyond_chance(beyond, torch.zeros(2, dtype=torch.float64)) == pytest.approx(1 - 2 / 16)
