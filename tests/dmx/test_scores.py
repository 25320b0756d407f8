"""First-order scores: where on the way gradients are taken and on which windows, and what is summed to a pair's score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers")

import torch

from dmx.calibration import Calibration, Parts
from dmx.decisions import decision_space
from dmx.relax import RelaxedModel
from dmx.scores import degree_gradient, inward, layer_degrees, pair_scores, path_secants
from dmx.text import TokenText

if TYPE_CHECKING:
    from dmx.models import LoadedModel

LADDER = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
Looks = list[tuple[list[float], list[int]]]


def looks_of(
    model: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, windows: int, formats: tuple[str, ...], seed: int = 0
) -> tuple[Looks, torch.Tensor]:
    """Degrees and windows of each look along the way; and what is summed where a look's gradient is the number of its first window."""
    looks: Looks = []

    def seen(_: object, __: object, degrees: torch.Tensor, index: torch.Tensor, *___: object) -> list[tuple[torch.Tensor, float]]:
        assert torch.equal(degrees, degrees[:1, :1].expand_as(degrees))  # every linear's weights and inputs alike
        looks.append((degrees[0, 0].tolist(), index.tolist()))
        return [(torch.full_like(degrees, float(index[0])), 0.0)]

    monkeypatch.setattr("dmx.scores.degree_gradients", seen)
    made = TokenText(name="made", sha256="", windows=text.windows[:1].repeat(windows, 1))
    relaxed = RelaxedModel(model.linears, formats)
    (found,) = path_secants(relaxed, Calibration(model, made, "ce"), [Parts(0.0, 1.0)], 2, seed)
    return looks, found.sums


def test_each_window_is_looked_at_once_at_one_of_ten_places_up_a_ladder_of_three(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, sums = looks_of(llama, text, monkeypatch, 34, LADDER)
    shares = [0.1, 0.3, 0.5, 0.7, 0.9]
    ways = [[share, 0.0] for share in shares] + [[1.0, share] for share in shares]
    # Of 34 windows four places see four and the others three, two in a pass at most.
    assert [degrees for degrees, _ in looks] == [pytest.approx(way) for way in ways for _ in range(2)]
    assert [len(index) for _, index in looks] == [2] * 8 + [2, 1] * 6
    assert sorted(window for _, index in looks for window in index) == list(range(34))
    assert sums[0].eq(34).all()
    assert sums[2].eq(sum(len(index) * index[0] for _, index in looks)).all()
    again, other = (looks_of(llama, text, monkeypatch, 34, LADDER, seed)[0] for seed in (0, 1))
    assert again == looks
    assert other != looks


def test_where_windows_are_too_few_each_place_sees_them_all(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, sums = looks_of(llama, text, monkeypatch, 3, LADDER[::2])
    assert [len(index) for _, index in looks] == [2, 1] * 5
    for first, second in zip(looks[::2], looks[1::2], strict=True):
        assert sorted(first[1] + second[1]) == [0, 1, 2]
    assert sums[0].eq(15).all()


@pytest.mark.parametrize("apart", [True, False])
def test_a_pairs_score_sums_the_steps_of_both_operands_over_its_layers(llama: LoadedModel, apart: bool) -> None:
    space = decision_space(llama, LADDER, tie=True, apart=apart)
    gradient = torch.arange(14 * 4, dtype=torch.float32).reshape(14, 2, 2)
    scores = pair_scores(space, gradient)
    for d, decision in enumerate(space.decisions):
        own = [gradient[space.layers.index(name)].tolist() for name in decision.layers]
        for p, pair in enumerate(space.pairs):
            rungs = LADDER.index(pair.weight), LADDER.index(pair.activation)
            assert scores[d, p] == sum(sum(of[operand][: rungs[operand]]) for of in own for operand in (0, 1))


def test_degrees_of_a_choice_are_its_rungs_and_inward_a_little_nearer_the_middle(llama: LoadedModel) -> None:
    space = decision_space(llama, LADDER, tie=True)
    choice = [int(space.pair_at(2, 1))] + [0] * (len(space.decisions) - 1)
    degrees = layer_degrees(space, choice)
    assert degrees[:3].tolist() == [[[1.0, 1.0], [1.0, 0.0]]] * 3  # q, k and v
    assert not degrees[3:].any()
    assert inward(degrees[:1]).flatten().tolist() == pytest.approx([0.85, 0.85, 0.85, 0.15])


def test_after_a_look_the_model_has_its_degrees_without_a_gradient(llama: LoadedModel, text: TokenText) -> None:
    with RelaxedModel(llama.linears, LADDER) as relaxed:
        degrees = torch.full_like(relaxed.degrees, 0.3)
        gradient, _ = degree_gradient(relaxed, Calibration(llama, text, "ce"), degrees, torch.arange(1))
        assert gradient.shape == degrees.shape
        assert torch.equal(relaxed.degrees, degrees)
        assert not relaxed.degrees.requires_grad
