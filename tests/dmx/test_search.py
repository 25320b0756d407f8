"""The search end to end on a tiny model: budgets, determinism, resuming, presets, errors."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from dmx import training
from dmx.allocators import allocate
from dmx.budget import Budget, Scenario, achieved, constraint, constraints
from dmx.calibration import Calibration
from dmx.curvature import curvature_scores
from dmx.decisions import decision_space
from dmx.errors import DmxError
from dmx.knapsack import best_choice
from dmx.models import load_model
from dmx.observed import QuantisedWeights
from dmx.relax import RelaxedModel
from dmx.repair import TOP
from dmx.scores import path_secants
from dmx.search_config import CHOICES, PRESETS, SearchConfig, parse_settings, preset_of
from dmx.searching import search, search_text
from dmx.text import TokenText
from mxsim.errors import MxsimError
from tests.dmx.small_models import random_model, with_nan_gradient, with_nan_weight

if TYPE_CHECKING:
    from dmx.models import LoadedModel

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
LADDER = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
B200 = Scenario(device="b200", assume=("b200-fp4-half-fp8",))
QUICK: dict[str, Any] = {"steps": 6, "batch_windows": 2, "refine": 3}


def layers_of(assignment: Any) -> Any:
    return assignment.to_json()["layers"]


@pytest.mark.parametrize("formats", [FORMATS, LADDER])
@pytest.mark.parametrize("bits", [4.25, 5.0, 6.5])
def test_bits_are_spent_to_the_last_exchange(llama: LoadedModel, text: TokenText, bits: float, formats: tuple[str, ...]) -> None:
    found = search(llama, f"bits={bits}", text=text, formats=formats, loss="kl", **QUICK)  # which every bit brings down
    assert found.achieved["bits"] <= bits
    assert found.search["left_of_budget"][f"bits={bits:g}"] == pytest.approx(1 - found.achieved["bits"] / bits)
    step = 2 / len(found.layers) if formats == FORMATS else 1 / len(found.layers)  # one operand of one layer, one rung up
    assert bits - found.achieved["bits"] < step


@pytest.mark.parametrize("kind", ["bytes", "energy", "latency", "dram"])
def test_costs_are_within_their_budgets(llama: LoadedModel, text: TokenText, kind: str) -> None:
    scenario = (
        Scenario(device="vmxdotp_12nm", assume=("vmxdotp_12nm-bf16-twice-fp8", "vmxdotp_12nm-hbm2-dram")) if kind == "energy" else B200
    )
    probe = constraint(Budget.parse(f"{kind}=1x", scenario), decision_space(llama, FORMATS), llama.shape)
    amount = 0.6 * probe.cheapest + 0.4 * probe.dearest
    found = search(llama, Budget(kind=kind, amount=amount, scenario=scenario), text=text, formats=FORMATS, **QUICK)
    name = {"bytes": "bytes", "energy": "energy_pj", "latency": "latency_s"}.get(kind)
    if name is not None:
        assert found.achieved[name] <= amount * (1 + 1e-12)
        assert found.achieved[name] == achieved(found, llama.shape, scenario)[name]
    assert min(found.search["left_of_budget"].values()) >= -1e-12


def test_several_budgets_hold_at_once(llama: LoadedModel, text: TokenText) -> None:
    space = decision_space(llama, FORMATS)
    probe = constraint(Budget.parse("latency=1x", B200), space, llama.shape)
    budgets = [Budget.parse("bits=6", B200), Budget(kind="latency", amount=(probe.cheapest + probe.dearest) / 2, scenario=B200)]
    found = search(llama, budgets, text=text, formats=FORMATS, scenario=B200, **QUICK)
    assert found.achieved["bits"] <= 6
    assert found.achieved["latency_s"] <= budgets[1].amount * (1 + 1e-12)
    assert [one["kind"] for one in found.budget["all_of"]] == ["bits", "latency"]


def test_a_budget_out_of_reach_is_refused_with_the_range(llama: LoadedModel, text: TokenText) -> None:
    with pytest.raises(DmxError, match=r"bits=3 cannot be met .* reachable range is 4 to 8"):
        search(llama, "bits=3", text=text, **QUICK)


def test_a_budget_beyond_the_top_gives_the_top(llama: LoadedModel, text: TokenText) -> None:
    found = search(llama, "bits=12", text=text, **{**QUICK, "loss": "kl"})  # cross-entropy of random weights need not prefer precision
    assert {(pair.weight, pair.activation) for pair in found.layers.values()} == {("mxfp8_e4m3", "mxfp8_e4m3")}
    assert found.search["left_because"] == "every decision has its dearest pair"


def test_where_the_top_fits_less_is_taken_only_if_it_measures_better(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmx.searching.Measure.race", lambda *_: (False, 1.0))
    monkeypatch.setattr("dmx.searching.Measure.has_less_kl", lambda *_: False)
    found = search(llama, "bits=8.25", text=text, formats=LADDER, **QUICK)
    assert {(pair.weight, pair.activation) for pair in found.layers.values()} == {("mxfp8_e4m3", "mxfp8_e4m3")}
    assert found.search["repair"] == TOP
    assert "exchanges" not in found.search
    assert search(llama, "bits=7", text=text, formats=LADDER, **QUICK).search["repair"] == "knapsack over early and late gradients"
    monkeypatch.setattr("dmx.searching.Measure.race", lambda *_: (True, 1.0))
    assert search(llama, "bits=8.25", text=text, formats=LADDER, **QUICK).search["repair"] != TOP


def test_a_ladder_can_end_at_bf16(llama: LoadedModel, text: TokenText) -> None:
    found = search(llama, "bits=11", text=text, formats=("mxfp4_e2m1", "bf16"), loss="kl", **QUICK)
    assert {pair.weight for pair in found.layers.values()} | {pair.activation for pair in found.layers.values()} == {"mxfp4_e2m1", "bf16"}
    assert 10 < found.achieved["bits"] <= 11


@pytest.mark.parametrize("relaxation", ["monotone", "floored"])
def test_sliding_bits_under_another_policy_are_refused_before_anything_runs(relaxation: str) -> None:
    with pytest.raises(DmxError, match="bits slide by policy ocp alone"):
        SearchConfig(policy="modelopt", relaxation=relaxation)
    with pytest.raises(DmxError, match="do not pass through mxint8"):
        SearchConfig(formats=("mxfp4_e2m1", "mxint8"), relaxation=relaxation)


def test_linears_that_the_module_does_not_call_are_refused(text: TokenText) -> None:
    module = random_model("llama")
    module.model.spare = torch.nn.Linear(32, 32)
    with pytest.raises(DmxError, match="the loss does not depend on any searched linear"):
        search(module, "bits=5", text=text, only=["*spare"], **QUICK)


def test_one_format_needs_no_search(llama: LoadedModel, text: TokenText, tmp_path: Path) -> None:
    (tmp_path / "trajectory.json").write_text("{}")  # an earlier search's
    found = search(llama, "bits=5", text=text, formats=("mxfp4_e2m1",), folder=tmp_path)
    assert {pair.weight for pair in found.layers.values()} == {"mxfp4_e2m1"}
    assert [path.name for path in tmp_path.iterdir()] == ["assignment.json"]


def test_the_same_seed_gives_the_same_bits(llama: LoadedModel, text: TokenText, tmp_path: Path) -> None:
    told = []
    for folder in ("one", "two"):
        found = search(llama, "bits=5", text=text, folder=tmp_path / folder, seed=3, **QUICK)
        trajectory = json.loads((tmp_path / folder / "trajectory.json").read_text())
        told.append((layers_of(found), {k: v for k, v in found.search.items() if k != "seconds"}, trajectory))
    assert told[0] == told[1]


def test_the_model_is_left_as_it_was(llama: LoadedModel, text: TokenText) -> None:
    before = {name: value.clone() for name, value in llama.module.state_dict().items()}
    ids = text.windows[:1]
    logits = llama.module(input_ids=ids).logits.detach()
    search(llama, "bits=5", text=text, **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in llama.module.state_dict().items())
    assert torch.equal(llama.module(input_ids=ids).logits, logits)


def test_a_module_computes_what_it_did_by_its_own_methods() -> None:
    """No part is left with a forward of its own: what copies of it compute is theirs."""
    module = random_model("llama")
    text = TokenText(name="random", sha256="", windows=torch.arange(32 * 4).view(4, 32) % 64)
    search(module, "bits=6", text=text, **QUICK)
    assert not [name for name, part in module.named_modules() if "forward" in part.__dict__]


def test_the_choice_by_curvature_is_taken_where_it_measures_best(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = decision_space(llama, FORMATS)
    scores = np.ones((len(space.decisions), len(space.pairs)))
    scores[:, 0] = 2.0
    scores[:3, -1] = 0.0  # the dearest pair for three, else a pair in the middle as far as the budget goes
    by_curvature = best_choice(scores, constraints([Budget.parse("bits=5", Scenario())], space, llama.shape))
    monkeypatch.setattr("dmx.searching.curvature_scores", lambda *_, **__: scores)
    monkeypatch.setattr("dmx.searching.Measure.is_better", lambda _, choice, than, errors: np.array_equal(choice, by_curvature))
    quick = {**QUICK, "refine": 0}
    found = search(llama, "bits=5", text=text, **quick)
    assert found.search["repair"] == "knapsack over curvature"
    assert list(found.layers.values()) == list(space.layer_pairs(by_curvature).values())
    monkeypatch.setattr("dmx.searching.curvature_scores", lambda *_, **__: pytest.fail("asked for"))
    search(llama, "bits=5", text=text, curvature=False, **quick)


def test_the_repairs_curvature_is_that_of_the_float_model(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("dmx.searching.curvature_scores", lambda *given, **more: seen.append(curvature_scores(*given, **more)) or seen[-1])
    search(llama, "bits=5", text=text, formats=LADDER, **QUICK)
    space = decision_space(llama, LADDER)
    alone = curvature_scores(llama, space, QuantisedWeights(llama, space, "ocp"), text, batch_windows=2, progress=False)
    assert np.array_equal(seen[0], alone)
    monkeypatch.setattr("dmx.searching.curvature_scores", lambda *_, **__: np.full_like(alone, np.inf))
    assert search(llama, "bits=5", text=text, formats=LADDER, **QUICK).search["repair"] != "knapsack over curvature"


def test_the_loss_is_settled_before_the_scores_that_a_search_starts_from(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    class Seen(training.Training):
        def __init__(self, *given: Any) -> None:
            taken.append((given[3].share, given[5]()))
            super().__init__(*given)

    monkeypatch.setattr("dmx.searching.Training", Seen)
    for share in (0.25, 1.0):
        monkeypatch.setattr("dmx.searching.next_token_share", lambda *_, share=share: share)
        assert search(llama, "bits=5", text=text, **QUICK).search["next_token_share"] == share
    space = decision_space(llama, ("mxfp4_e2m1", "mxfp8_e4m3"))
    calibration = Calibration(llama, text, "shrunk")
    with RelaxedModel({name: llama.linears[name] for name in space.layers}, space.formats) as relaxed:
        for share, along in taken:
            calibration.share = share
            (alone,) = path_secants(relaxed, calibration, (calibration.parts,), 2, 0)
            assert torch.allclose(along, alone(), rtol=1e-4, atol=1e-5 * float(alone().abs().max()))
            assert not torch.allclose(along, taken[share == 0.25][1], rtol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("relaxation", CHOICES["relaxation"])
def test_a_search_runs_on_cuda(llama_folder: Path, text: TokenText, relaxation: str) -> None:
    found = search(load_model(llama_folder, device="cuda"), "bits=5", text=text, relaxation=relaxation, **QUICK)
    assert found.achieved["bits"] <= 5


def test_a_loss_that_is_not_finite_names_the_module(llama: LoadedModel, text: TokenText) -> None:
    broken = with_nan_weight(llama.module, "model.layers.1.post_attention_layernorm.weight")
    place = r"'model\.layers\.1\.post_attention_layernorm', whose own weight holds values that are not finite"
    with pytest.raises(DmxError, match=rf"the loss is nan .*{place}"):
        search(load_model(broken), "bits=5", text=text, **QUICK)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_gradient_that_is_not_finite_names_the_module(llama: LoadedModel, text: TokenText, preset: str) -> None:
    """It comes back through the final norm: the last linear is the first to see it."""
    broken = with_nan_gradient(llama.module, "model.norm")
    told = r"the loss is \d.* its gradient is not finite for 14 of 14 linears.*arrives at the output of 'model\.layers\.1\.mlp\.down_proj'"
    with pytest.raises(DmxError, match=told):
        search(load_model(broken), "bits=5", text=text, config=preset, steps=3, batch_windows=2)


def test_a_choice_whose_loss_is_not_finite_is_not_given_out(llama: LoadedModel, text: TokenText) -> None:
    """A module that overflows only where nothing is relaxed any more."""
    broken = copy.deepcopy(llama.module)
    broken.get_submodule("model.norm").register_forward_hook(lambda _, __, output: output if output.requires_grad else output / 0)
    for settings in ({"config": "paper", "steps": 3, "batch_windows": 2}, {**QUICK, "start": "middle", "loss": "ce", "curvature": False}):
        with pytest.raises(DmxError, match=r"the loss is nan on windows .* out of 'model\.norm'"):
            search(load_model(broken), "bits=5", text=text, **settings)


def test_a_model_of_ones_own_needs_text(llama: LoadedModel) -> None:
    with pytest.raises(DmxError, match="--text FILE"):
        search(llama, "bits=5")


def test_the_windows_are_spread_over_the_text(llama: LoadedModel, text: TokenText) -> None:
    taken = search_text(llama, text, SearchConfig(tokens=3 * text.windows.shape[1]))
    assert torch.equal(taken.windows, text.windows[[0, (len(text.windows) - 1) // 2, len(text.windows) - 1]])


def test_windows_are_no_longer_than_a_search_needs_unless_asked_for(
    llama: LoadedModel, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmx.searching.SEARCH_CONTEXT", 16)
    monkeypatch.setattr("dmx.allocators.allocation.LONGEST_SCORED_WINDOW", 16)
    for context, width in ((None, 16), (24, 24)):
        assert search_text(llama, text_file, SearchConfig(context=context, tokens=70)).windows.shape == (70 // width, width)
        scored = allocate(llama, "fisher", "bits=5", text=text_file, context=context, tokens=70).search["text"]["tokens"]
        assert scored == 70 // width * (width - 1)
    with pytest.raises(DmxError, match="not of the 24 asked for"):
        search_text(llama, search_text(llama, text_file, SearchConfig()), SearchConfig(context=24))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values])
def test_every_choice_runs_and_meets_the_budget(llama: LoadedModel, text: TokenText, name: str, value: str) -> None:
    found = search(llama, "bits=5", text=text, **{**QUICK, "steps": 4, "refine": 0, name: value})
    assert found.achieved["bits"] <= 5
    assert found.search["config"][name] == value


def test_the_papers_preset_is_the_paper(llama: LoadedModel, text: TokenText) -> None:
    found = search(llama, "bits=5", config="paper", text=text, steps=6, batch_windows=2)
    assert all(pair.weight == pair.activation for pair in found.layers.values())
    config = found.search["config"]
    assert (config["relaxation"], config["start"], config["steering"], config["repair"]) == ("floored", "zero", "one_sided", False)


def test_tied_layers_agree(llama: LoadedModel, text: TokenText) -> None:
    found = search(llama, "bits=5", text=text, tie=True, **QUICK)
    assert found.skipped == ("lm_head",)
    for layer in range(2):
        for group in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
            assert len({found.layers[f"model.layers.{layer}.{name}"] for name in group}) == 1


def test_settings_are_read_by_their_types() -> None:
    words = ["steps=7", "learning_rate=0.5", "repair=off", "formats=mxfp4_e2m1,mxfp6_e2m3", "context=64", "loss=kl"]
    assert parse_settings(words) == {
        "steps": 7,
        "learning_rate": 0.5,
        "repair": False,
        "formats": ("mxfp4_e2m1", "mxfp6_e2m3"),
        "context": 64,
        "loss": "kl",
    }


@pytest.mark.parametrize("word", ["steps", "steps=many", "repair=perhaps", "context=1.5", "stepps=3"])
def test_a_setting_that_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises((DmxError, MxsimError), match="setting"):
        parse_settings([word])


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"tokens": 0}, {"hold": 2.0}, {"refine": -1}, {"rise": 0.0}, {"loss": "mse"}, {"policy": "mine"}, {"colour": "red"}],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((DmxError, MxsimError)):
        SearchConfig().with_settings(wrong)


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"refine": "0"}, "refine is '0': pass a whole number"),
        ({"steps": 2.5}, "steps is 2.5: pass a whole number"),
        ({"seed": True}, "seed is True: pass a whole number"),
        ({"seed": np.int64(3)}, "pass a whole number"),
        ({"context": "64"}, "context is '64': pass a whole number or None"),
        ({"apart": "no"}, "apart is 'no': pass True or False"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast': pass a number"),
        ({"hold": math.nan}, "hold is nan"),
        ({"loss": 3}, "loss is 3: pass a name"),
        ({"policy": None}, "policy is None: pass a name"),
        ({"formats": "mxfp4_e2m1"}, "formats is 'mxfp4_e2m1': pass a list of names"),
        ({"formats": 4}, "formats is 4: pass a list of names"),
        ({"formats": [4, 8]}, "pass a list of names"),
    ],
)
def test_a_setting_of_another_type_is_refused(wrong: dict[str, Any], remedy: str) -> None:
    with pytest.raises(DmxError, match=re.escape(remedy)):
        SearchConfig().with_settings(wrong)


def test_a_setting_takes_what_its_type_holds() -> None:
    config = SearchConfig().with_settings({"learning_rate": 1, "level": np.float64(0.5), "context": None, "formats": list(LADDER)})
    assert config == SearchConfig(learning_rate=1.0, level=0.5, formats=LADDER)


def test_a_preset_is_known_by_its_method_not_by_its_name() -> None:
    run = {"formats": LADDER, "tie": True, "apart": True, "steps": 3, "tokens": 64, "context": 8, "seed": 7}
    for name, preset in PRESETS.items():
        policy = "torchao" if preset.relaxation == "mix" else "ocp"
        assert preset_of(preset) == preset_of(preset.with_settings({**run, "policy": policy})) == name
        assert preset_of(preset.with_settings({"learning_rate": 0.3, "refine": 5})) == name
    assert preset_of(SearchConfig(loss="ce")) is None
    assert preset_of(PRESETS["paper"].with_settings({"relaxation": "mix"})) is None


def test_presets_survive_json() -> None:
    for preset in PRESETS.values():
        assert SearchConfig().with_settings(json.loads(json.dumps(preset.to_json()))) == preset


def test_refinement_never_leaves_the_budget_nor_raises_the_loss(llama: LoadedModel, text: TokenText) -> None:
    found = search(llama, "bits=5", text=text, **{**QUICK, "refine": 12})
    assert found.search["loss_after_refinement"] <= found.search["loss_after_repair"]
    limit = constraints([Budget.parse("bits=5", Scenario())], decision_space(llama, FORMATS), llama.shape)[0]
    assert limit.limit == 5
    assert np.isclose(found.achieved["bits"], 5 * (1 - found.search["left_of_budget"]["bits=5"]))
