"""Decision spaces: ladders, pairs, tied groups."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.budget import Budget, Scenario, constraint
from dmx.decisions import decision_space, element_bits, scaled_bits
from dmx.errors import DmxError
from dmx.models import LoadedModel, load_model
from mxsim.storage_formats import FormatPair
from tests.dmx.small_models import random_model

THREE = ("mxfp8_e4m3", "mxfp4_e2m1", "mxfp6_e2m3")


def test_the_ladder_rises_whatever_the_order_given(llama: LoadedModel) -> None:
    space = decision_space(llama, THREE)
    assert space.formats == ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
    assert len(space.pairs) == 9
    assert space.layers == tuple(llama.linears)
    assert space.skipped == ("lm_head",)
    assert len(decision_space(llama, THREE, apart=False).pairs) == 3
    assert (element_bits("bf16"), scaled_bits("bf16")) == (16, 16)
    assert (element_bits("mxfp4_e2m1"), scaled_bits("mxfp4_e2m1")) == (4, 4.25)


@pytest.mark.parametrize("apart", [True, False])
def test_places_and_pairs_are_inverse(llama: LoadedModel, apart: bool) -> None:
    space = decision_space(llama, THREE, apart=apart)
    for i, pair in enumerate(space.pairs):
        weight, activation = space.rungs(i)
        assert space.pair_at(weight, activation) == i
        assert pair == FormatPair(space.formats[weight], space.formats[activation])


def test_tied_layers_decide_together(llama: LoadedModel) -> None:
    space = decision_space(llama, THREE[:2], tie=True)
    assert len(space.decisions) == 8
    assert [layer.rpartition(".")[2] for layer in space.decisions[0].layers] == ["q_proj", "k_proj", "v_proj"]
    assert sum(sum(d.weights) for d in space.decisions) == sum(linear.weight.numel() for linear in llama.linears.values())
    choice = np.arange(8) % 4
    layers = space.layer_pairs(choice)
    assert len({layers[layer] for layer in space.decisions[0].layers}) == 1
    assert [space.pairs.index(layers[decision.layers[-1]]) for decision in space.decisions] == choice.tolist()


@pytest.mark.parametrize("tie", [False, True])
def test_linears_that_share_a_weight_decide_together_and_cost_together(tie: bool) -> None:
    module = random_model("llama")
    plain = load_model(module)
    budget = Budget.parse("bytes=0.5x", Scenario())
    apart = constraint(budget, decision_space(plain, THREE, tie=tie), plain.shape)
    names = [f"model.layers.{i}.self_attn.o_proj" for i in (0, 1)]
    module.get_submodule(names[1]).weight = module.get_submodule(names[0]).weight
    shared = load_model(module)
    space = decision_space(shared, THREE, tie=tie)
    (decision,) = (one for one in space.decisions if one.name == names[0])
    assert decision.layers == tuple(names)
    assert sorted(space.layers) == sorted(shared.linears)
    together = constraint(budget, space, shared.shape)
    assert together.cheapest == pytest.approx(apart.cheapest)
    assert together.dearest == pytest.approx(apart.dearest)


def test_a_pattern_that_matches_no_linear_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(DmxError, match="matches none"):
        decision_space(llama, THREE, only=["*.experts.*"])


def test_linears_left_out_are_listed(llama: LoadedModel) -> None:
    space = decision_space(llama, THREE, skip=["*.down_proj"])
    assert len(space.layers) == 12
    assert set(space.skipped) == {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj", "lm_head"}
