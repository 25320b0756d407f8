"""The published methods: what they measure against plain computations, and that each meets its budget."""

from __future__ import annotations

import copy
import json
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.allocators import METHODS, allocate  # noqa: E402
from dmx.allocators.first_last import outer_first  # noqa: E402
from dmx.allocators.first_order import measure as first_order_scores  # noqa: E402
from dmx.allocators.kl_scores import kl_scores  # noqa: E402
from dmx.allocators.problem import Problem  # noqa: E402
from dmx.allocators.score_cache import ScoreCache, user_folder  # noqa: E402
from dmx.budget import Budget, Scenario, constraint, constraints  # noqa: E402
from dmx.calibration import Calibration  # noqa: E402
from dmx.curvature import curvature_scores  # noqa: E402
from dmx.decisions import decision_space  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import evaluate  # noqa: E402
from dmx.ladder import Ladder  # noqa: E402
from dmx.models import LoadedModel, content_hash, load_model  # noqa: E402
from dmx.observed import QuantisedWeights, observe  # noqa: E402
from dmx.quantisers import fake_quantize  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from mxsim.errors import UnknownNameError  # noqa: E402
from mxsim.workload import Phase  # noqa: E402
from tests.dmx.small_models import with_nan_gradient, with_nan_weight  # noqa: E402

TWO = ("mxfp4_e2m1", "mxfp8_e4m3")
THREE = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
ON_B200 = Scenario(device="b200", phases=((Phase(context=16), 1.0),), assume=("b200-fp4-half-fp8",))
PLACE = Scenario(
    device="vmxdotp_12nm",
    phases=((Phase(context=16), 1.0),),
    assume=("vmxdotp_12nm-bf16-twice-fp8", "vmxdotp_12nm-hbm2-dram"),
)


class Rounded(torch.autograd.Function):
    """The highest format's values, and the gradient straight through."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return fake_quantize(x, TWO[1])

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
        return grad


def problem(model: LoadedModel, text: TokenText, formats: tuple[str, ...] = TWO, **how: bool) -> Problem:
    space = decision_space(model, formats, **how)
    return Problem(model=model, space=space, constraints=constraints([Budget.parse("bits=5")], space, model.shape), read_text=lambda: text)


@pytest.mark.parametrize("how", [{}, {"tie": True}, {"apart": True}], ids=str)
@pytest.mark.parametrize("formats", [TWO, THREE], ids=len)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_meets_every_kind_of_budget(
    llama: LoadedModel,
    text: TokenText,
    tmp_path_factory: pytest.TempPathFactory,
    method: str,
    formats: tuple[str, ...],
    how: dict[str, bool],
) -> None:
    before = content_hash(llama.module)
    cache = tmp_path_factory.getbasetemp() / "scores"
    space = decision_space(llama, formats, **how)
    latency = constraint(Budget.parse("latency=1", ON_B200), space, llama.shape)
    halfway = Budget(kind="latency", amount=(latency.cheapest + latency.dearest) / 2, scenario=ON_B200)
    for budget in ("bits=5", "bytes=0.55x", "dram=0.9x", halfway, ["bits=6.5", "energy=0.95x"]):
        found = allocate(llama, method, budget, formats=formats, text=text.first(3), cache=cache, scenario=PLACE, **how)
        assert list(found.layers) == list(llama.linears)
        assert found.skipped == ("lm_head",)
        assert all(left >= -1e-9 for left in found.search["left_of_budget"].values())
        if budget == "bits=5":
            assert found.achieved["bits"] <= 5
        if how.get("tie"):
            assert len({found.layers[f"model.layers.0.self_attn.{n}_proj"] for n in "qkv"}) == 1
        json.dumps(found.to_json())
    assert content_hash(llama.module) == before


def test_first_order_is_the_gradient_times_the_change(llama: LoadedModel, text: TokenText) -> None:
    """Signed, at the highest format: against autograd on operands that are leaves."""
    given = problem(llama, text.first(2), apart=False)
    scores = {r: first_order_scores(given, given.read_text(), "high", r) for r in ("signed", "abs")}
    leaves: dict[str, tuple[torch.Tensor, ...]] = {}
    handles = []
    for name, linear in llama.linears.items():

        def forward(x: torch.Tensor, name: str = name, linear: torch.nn.Linear = linear) -> torch.Tensor:
            value = Rounded.apply(x)
            value = value if value.requires_grad else value.requires_grad_()
            value.retain_grad()
            weight = fake_quantize(linear.weight, TWO[1]).requires_grad_()
            leaves[name] = (x.detach(), value, linear.weight.detach(), weight)
            return torch.nn.functional.linear(value, weight, linear.bias)

        linear.forward = forward
        handles.append(linear)
    try:
        logits = llama.module(input_ids=given.read_text().windows).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), given.read_text().windows[:, 1:].flatten()).backward()
    finally:
        for linear in handles:
            del linear.forward
    for d, (x, value, w, weight) in enumerate(leaves.values()):
        for pair, format in enumerate(TWO):
            terms = [value.grad * (fake_quantize(x, format) - x), weight.grad * (fake_quantize(w, format) - w)]
            size = sum(float(t.abs().sum()) for t in terms)
            assert scores["abs"][d, pair] == pytest.approx(size, rel=2e-3)
            assert scores["signed"][d, pair] == pytest.approx(sum(float(t.sum()) for t in terms), abs=1e-3 * size)


def test_a_look_at_the_ladder_keeps_no_copy_of_every_weight(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = QuantisedWeights(llama, problem(llama, text).space, "ocp")
    made, alive, mixed = list[weakref.ref[torch.Tensor]](), list[int](), Ladder.mixed

    def counted(ladder: Ladder, *given: Any) -> torch.Tensor:
        value = mixed(ladder, *given)
        made.extend([weakref.ref(value)] if ladder in weights.ladders else [])
        return value

    monkeypatch.setattr(Ladder, "mixed", counted)
    calibration = Calibration(llama, text.first(2), "kl")
    look = partial(observe, calibration, weights, 0.5, windows=torch.arange(2), progress=False, title="")
    look(lambda *_: alive.append(sum(one() is not None for one in made)))
    assert len(alive) == 14
    assert max(alive) <= 1


def test_fisher_is_the_squared_gradient_times_the_squared_change(llama: LoadedModel, text: TokenText) -> None:
    given = problem(llama, text.first(2), apart=True)
    weights = QuantisedWeights(llama, given.space, given.policy)
    found = curvature_scores(llama, given.space, weights, given.read_text(), batch_windows=8, progress=False)
    name, linear = list(llama.linears.items())[5]
    kept: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        leaf = out.detach().requires_grad_()
        kept.extend([args[0].detach(), leaf])
        return leaf

    handle = linear.register_forward_hook(keep)
    windows = given.read_text().windows
    logits = llama.module(input_ids=windows).logits[:, :-1]
    handle.remove()
    (torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()) * len(windows)).backward()
    x, out = kept
    for p, pair in enumerate(given.space.pairs):
        quantised = fake_quantize(x, pair.activation) @ fake_quantize(linear.weight, pair.weight).T
        expected = float((out.grad * (quantised - out.detach())).square().sum()) / len(windows)
        assert found[given.space.layers.index(name), p] == pytest.approx(expected, rel=1e-3)


def test_kl_is_measured_one_decision_at_a_time(llama: LoadedModel, text: TokenText) -> None:
    given = problem(llama, text.first(2), tie=True, apart=False)
    scores = kl_scores(given)
    alone = Assignment(layers=dict.fromkeys(given.space.decisions[0].layers, given.space.pairs[0]))
    assert scores[0, 0] == pytest.approx(evaluate(llama, alone, text=text.first(2))["kl_to_float"], rel=1e-4)


def test_kl_greedy_raises_the_most_sensitive_layers(llama: LoadedModel, text: TokenText, tmp_path: Path) -> None:
    found = allocate(llama, "kl", "bits=5.2", text=text.first(3), cache=tmp_path)
    scores = kl_scores(problem(llama, text.first(3), apart=False))
    high = [name for name, pair in found.layers.items() if pair.weight == TWO[1]]
    ranked = [list(llama.linears)[i] for i in np.argsort(-scores[:, 0])]
    assert sorted(high) == sorted(ranked[:4])


@pytest.mark.parametrize(
    ("method", "bits", "expected"),
    [
        ("kl", 16, (6, 6, 4)),  # each time the most sensitive climbs one rung
        ("kl", 18, (6, 8, 4)),
        ("kl", 20, (6, 8, 6)),
        ("kl_per_bit", 16, (6, 4, 6)),  # the second's way to 8 bits saves more a bit than the third's to 6, but does not fit
        ("kl_per_bit", 18, (6, 8, 4)),
        ("kl_per_bit", 20, (6, 8, 6)),
        ("kl_per_bit", 22, (8, 8, 6)),
    ],
)
def test_kl_is_spent_by_hand(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, method: str, bits: int, expected: tuple[int, ...]
) -> None:
    """Saved a bit: the first 3 to 6 bits, then 1.5; the second 0.5 to 6 bits, 2 straight to 8; the third 1.75 and 0.05."""
    scores = np.array([[9.0, 3.0, 0.0], [8.0, 7.0, 0.0], [5.0, 1.5, 1.4]])
    monkeypatch.setattr(f"dmx.allocators.{method}.kl_scores", lambda _: scores)
    found = allocate(llama, method, Budget(kind="bits", amount=bits / 3), formats=THREE, only=["*layers.0.mlp.*"], text=text)
    assert tuple(4 + 2 * THREE.index(pair.weight) for pair in found.layers.values()) == expected
    assert found.search["predicted_loss"] == pytest.approx(sum(scores[d, (b - 4) // 2] for d, b in enumerate(expected)))


@pytest.mark.parametrize("method", ["kl", "kl_per_bit"])
def test_of_pairs_that_cost_the_same_the_one_of_least_kl_is_taken(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Inputs are not stored: in bytes their formats are free. Then one weight rises: a step that helps, the better of them first."""
    scores = np.array([[5.0, 4.0, 0.1, 0.2], [3.0, 3.5, 3.4, 2.0], [1.0, 2.0, 0.5, 0.9]])
    monkeypatch.setattr(f"dmx.allocators.{method}.kl_scores", lambda _: scores)
    given: dict[str, Any] = {"apart": True, "only": ["*layers.0.mlp.*"], "text": text}
    space = decision_space(llama, TWO, apart=True, only=given["only"])
    stored = constraint(Budget.parse("bytes=1x"), space, llama.shape)
    for extra, expected in ((0.0, [1, 0, 0]), (1.0, [3 if method == "kl" else 2, 0, 0])):
        amount = stored.cheapest + extra * float(np.ptp(stored.costs[0]))
        found = allocate(llama, method, Budget(kind="bytes", amount=amount), **given)
        assert [space.pairs.index(pair) for pair in found.layers.values()] == expected


@pytest.mark.parametrize("method", ["kl", "kl_per_bit"])
def test_of_a_layers_two_operands_the_one_that_saves_more_kl_rises(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    scores = np.array([[5.0, 1.0, 3.0, 0.0], [0.4, 0.3, 0.2, 0.1], [4.0, 3.0, 1.0, 0.0]])  # pairs: low, input high, weight high, both
    monkeypatch.setattr(f"dmx.allocators.{method}.kl_scores", lambda _: scores)
    budget = Budget(kind="bits", amount=4 + 2 * 2 / 3)  # two operands of six
    found = allocate(llama, method, budget, formats=TWO, apart=True, only=["*layers.0.mlp.*"], text=text)
    assert [(pair.weight == TWO[1], pair.activation == TWO[1]) for pair in found.layers.values()] == [
        (False, True),
        (False,) * 2,
        (True, False),
    ]


@pytest.mark.parametrize("point", ["own", "middle", "path"])
def test_first_order_scores_are_a_mean_over_windows(llama: LoadedModel, text: TokenText, point: str) -> None:
    """Of equal windows any number says the same, also where there are too few for each place to have its own."""
    found = []
    for windows in (1, 3, 7):
        alike = TokenText(name="alike", sha256="", windows=text.windows[:1].repeat(windows, 1))
        found.append(first_order_scores(problem(llama, alike, apart=False), alike, point, "abs"))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)
    np.testing.assert_allclose(found[2].sum(), found[0].sum(), rtol=0.2 if point == "path" else 1e-3)  # one place has two of seven


def test_scores_are_computed_once_and_serve_every_budget(
    llama: LoadedModel, text: TokenText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = allocate(llama, "fisher", "bits=5", text=text, cache=tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    (tmp_path / "any").touch()
    assert files[0].stat().st_mode == (tmp_path / "any").stat().st_mode  # as readable as any other file

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("dmx.allocators.fisher.curvature_scores", never)
    assert allocate(llama, "fisher", "bits=5", text=text, cache=tmp_path).layers == first.layers
    allocate(llama, "fisher", "bits=7", text=text, cache=tmp_path)
    with pytest.raises(AssertionError, match="computed again"):
        allocate(llama, "fisher", "bits=5", text=text.first(2), cache=tmp_path)
    files[0].write_text("{", encoding="utf-8")
    with pytest.raises(DmxError, match="delete the file"):
        allocate(llama, "fisher", "bits=5", text=text, cache=tmp_path)


def test_scores_are_kept_by_everything_that_they_depend_on(llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def known(_: ScoreCache, key: Any, shape: tuple[int, ...], compute: object) -> np.ndarray:
        keys.append(json.dumps(key, sort_keys=True))
        return np.zeros(shape)

    monkeypatch.setattr(ScoreCache, "get", known)
    half = load_model(copy.deepcopy(llama.module).bfloat16())
    widened = load_model(copy.deepcopy(half.module).float())
    stored = replace(widened, stored_dtypes=dict.fromkeys(widened.linears, torch.bfloat16))
    scaled = load_model(copy.deepcopy(widened.module))
    scaled.module.config.rms_norm_eps *= 2
    asked: list[tuple[Any, str, dict[str, Any]]] = [
        (llama, "fisher", {}),
        (half, "fisher", {}),
        (widened, "fisher", {}),
        (stored, "fisher", {}),
        (load_model(scaled.module), "fisher", {}),
        (llama, "kl", {}),
        (llama, "first_order", {}),
        (llama, "first_order", {"point": "middle"}),
        (llama, "first_order", {"reduction": "signed"}),
        (llama, "fisher", {"policy": "torchao"}),
        (llama, "fisher", {"formats": THREE}),
        (llama, "fisher", {"formats": THREE[:2]}),
        (llama, "fisher", {"tie": True}),
        (llama, "fisher", {"apart": True}),
        (llama, "fisher", {"text": text.first(2)}),
        (llama, "fisher", {"tokens": 96}),
        (llama, "fisher", {"tokens": 96, "seed": 1}),
    ]
    for model, method, how in asked:
        allocate(model, method, "bits=5", **{"text": text, **how})
    assert len(set(keys)) == len(keys) == len(asked)
    allocate(llama, "fisher", "bits=7", text=TokenText(name="another name", sha256="", windows=text.windows), seed=9)
    allocate(llama, "kl_per_bit", "bits=7", text=text)
    assert keys[-2:] == [keys[0], keys[5]]


@pytest.mark.parametrize("method", ["kl", "kl_per_bit", "first_order", "fisher"])
def test_a_loss_that_is_not_finite_names_the_module(llama: LoadedModel, text: TokenText, tmp_path: Path, method: str) -> None:
    broken = with_nan_weight(llama.module, "model.layers.1.post_attention_layernorm.weight")
    with pytest.raises(DmxError, match=r"the loss is nan .*'model\.layers\.1\.post_attention_layernorm'"):
        allocate(broken, method, "bits=5", text=text, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["first_order", "fisher"])
def test_a_gradient_that_is_not_finite_names_the_decision(llama: LoadedModel, text: TokenText, tmp_path: Path, method: str) -> None:
    broken = with_nan_gradient(llama.module, "model.layers.1.input_layernorm")
    told = rf"the {method} scores of 7 of 14 decisions are not finite, the last of them 'model\.layers\.0\.mlp\.down_proj'"
    with pytest.raises(DmxError, match=told):
        allocate(broken, method, "bits=5", text=text, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_scores_kept_by_older_versions_are_looked_at_too(llama: LoadedModel, text: TokenText, tmp_path: Path) -> None:
    allocate(llama, "kl", "bits=5", text=text, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    content["scores"][3][0] = float("nan")
    path.write_text(json.dumps(content))
    with pytest.raises(DmxError, match=r"the kl scores of 1 of 14 decisions are not finite"):
        allocate(llama, "kl", "bits=5", text=text, cache=tmp_path)


def test_the_users_cache_is_where_the_standard_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, top in ((str(tmp_path / "mine"), tmp_path / "mine"), ("", tmp_path / "home/.cache"), ("relative", tmp_path / "home/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert user_folder() == top / "mxsim" / "scores"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_folder() == tmp_path / "home/.cache/mxsim/scores"
    assert not (tmp_path / "home").exists()


def test_the_same_seed_gives_the_same(llama: LoadedModel, text: TokenText) -> None:
    first, again, other = (allocate(llama, "first_order", "bits=5", text=text, tokens=96, seed=seed) for seed in (1, 1, 2))
    assert first.layers == again.layers
    assert first.search["predicted_loss"] == again.search["predicted_loss"]
    assert first.search["predicted_loss"] != other.search["predicted_loss"]
    assert first.search["text"]["tokens"] == 3 * 31  # scored ones, as a search tells them


def test_bits_are_spent_from_the_ends() -> None:
    names = [f"m.layers.{i}.{leaf}" for i in range(5) for leaf in "ab"]
    assert outer_first(names) == [0, 1, 8, 9, 2, 3, 6, 7, 4, 5]
    assert outer_first(["first", "second"]) == [0, 1]


def test_uniform_takes_the_most_that_fits(llama: LoadedModel) -> None:
    assert {p.weight for p in allocate(llama, "uniform", "bits=7.9", formats=THREE).layers.values()} == {"mxfp6_e2m3"}


@pytest.mark.parametrize(
    ("method", "measured", "reason"),
    [
        ("fisher", "fisher.cached_scores", "dearer pairs would fit, but none lowers the predicted loss"),
        ("first_order", "first_order.cached_scores", "dearer pairs would fit, but none lowers the predicted loss"),
        ("kl", "kl.kl_scores", "dearer pairs would fit, but no layer's next rung up both fits and has less KL"),
        ("kl_per_bit", "kl_per_bit.kl_scores", "dearer pairs would fit, but none has less KL"),
        ("uniform", None, "all layers take one pair, and none of more bits fits for all of them"),
    ],
)
def test_why_a_dearer_pair_is_not_taken_is_told_as_the_method_goes(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, method: str, measured: str | None, reason: str
) -> None:
    if measured is not None:  # the cheapest pair is best for all but the first decision
        scores = np.tile([1.0, 2.0], (14, 1))
        scores[0] = 2.0, 1.0
        monkeypatch.setattr(f"dmx.allocators.{measured}", lambda *_: scores)
    found = allocate(llama, method, "bits=7.9", text=text)
    assert found.search["left_because"] == reason
    assert sum(pair.weight == TWO[1] for pair in found.layers.values()) == (measured is not None)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_left_has_a_reason_that_holds(llama: LoadedModel, text: TokenText, method: str) -> None:
    found = allocate(llama, method, "bits=12", text=text.first(2))
    if {pair.weight for pair in found.layers.values()} == {TWO[1]}:
        assert found.search["left_because"] == "every decision has its dearest pair"
    assert found.search["spent_of_budget"]["bits=12"] == pytest.approx(found.achieved["bits"])
    assert allocate(llama, "first_last", "bits=5").search["left_because"] == "no single dearer pair fits in what is left"


def test_bad_input_is_refused(llama: LoadedModel, text: TokenText) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fisher'"):
        allocate(llama, "fischer", text=text)
    with pytest.raises(UnknownNameError, match="unknown setting of kl"):
        allocate(llama, "kl", text=text, point="low")
    with pytest.raises(DmxError, match="first_order takes point"):
        allocate(llama, "first_order", text=text, point="nowhere")
    with pytest.raises(UnknownNameError, match="mxfp4_e2m1"):
        allocate(llama, "uniform", formats=("mxfp4",))
    with pytest.raises(UnknownNameError, match="polic"):
        allocate(llama, "uniform", policy="occp")
    with pytest.raises(DmxError, match="reachable range"):
        allocate(llama, "uniform", "bits=3")
    with pytest.raises(DmxError, match="only the embedded model brings its own"):
        allocate(llama, "fisher")
