"""A model under an assignment: the arithmetic, from stored dtypes, and all of it undone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx import quantised_linear  # noqa: E402
from dmx.allocators import allocate  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import evaluate, logits_of  # noqa: E402
from dmx.exporters import export  # noqa: E402
from dmx.models import LoadedModel, content_hash, searched_linears  # noqa: E402
from dmx.quantised_linear import InputQuantiser, apply, read_assignment  # noqa: E402
from dmx.quantisers import fake_quantize  # noqa: E402
from dmx.searching import search  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from dmx.unit_linear import apply_unit  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from mxsim.storage_formats import FormatPair  # noqa: E402
from tests.dmx.small_models import random_model  # noqa: E402


@pytest.mark.parametrize("which", ["llama", "qwen"])
def test_undo_restores_every_bit(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    ids = torch.arange(16)[None]
    before, logits = content_hash(model.module), logits_of(model.module, ids)
    assignment = Assignment.uniform(model.linears, "mxfp4_e2m1:mxfp8_e4m3")
    with apply(model, assignment) as applied:
        quantised = logits_of(model.module, ids)
        assert not torch.equal(quantised, logits)
        with applied.suspended():
            assert torch.equal(logits_of(model.module, ids), logits)
        assert torch.equal(logits_of(model.module, ids), quantised)
    assert content_hash(model.module) == before
    assert torch.equal(logits_of(model.module, ids), logits)
    applied.undo()


def test_linears_that_share_a_weight_take_each_its_own_format() -> None:
    module, apart = random_model("llama"), random_model("llama")
    names = [f"model.layers.{i}.mlp.down_proj" for i in (0, 1)]
    first, second = (module.get_submodule(name) for name in names)
    apart.get_submodule(names[1]).weight.data = apart.get_submodule(names[0]).weight.data.clone()
    second.weight = shared = first.weight
    before, ids = shared.detach().clone(), torch.arange(16)[None]
    assignment = Assignment(
        layers={names[0]: FormatPair("mxfp4_e2m1", "mxfp8_e4m3"), names[1]: FormatPair("mxfp8_e4m3", "mxfp8_e4m3")}, policy="ocp"
    )
    logits = logits_of(module, ids)
    with apply(module, assignment) as applied, apply(apart, assignment):
        assert torch.equal(logits_of(module, ids), logits_of(apart, ids))
        with applied.suspended():
            assert torch.equal(logits_of(module, ids), logits)
    assert first.weight is second.weight is shared
    assert torch.equal(shared, before)


def test_an_input_that_is_changed_in_place_is_another(llama: LoadedModel) -> None:
    quantise, x = InputQuantiser("ocp"), torch.randn(4, 32)
    first = quantise(x, "mxfp4_e2m1")
    assert quantise(x, "mxfp4_e2m1") is first
    x.mul_(1.7)
    assert torch.equal(quantise(x, "mxfp4_e2m1"), fake_quantize(x, "mxfp4_e2m1"))
    with torch.inference_mode():
        y = torch.randn(4, 32)
        quantise(y, "mxfp4_e2m1")
        y.mul_(1.7)
        assert torch.equal(quantise(y, "mxfp4_e2m1"), fake_quantize(y, "mxfp4_e2m1"))


def test_a_live_module_keeps_its_mode_and_its_gradients(tmp_path: Path) -> None:
    """Whatever part was in training or frozen; given back after errors, too."""
    module = random_model("llama")
    module.train()
    module.model.layers[0].train(False)
    module.model.embed_tokens.weight.requires_grad_(False)
    before = [part.training for part in module.modules()], [one.requires_grad for one in module.parameters()]
    assert [set(each) for each in before] == [{True, False}] * 2

    def as_before() -> bool:
        return before == ([part.training for part in module.modules()], [one.requires_grad for one in module.parameters()])

    assignment = Assignment.uniform(searched_linears(module), "mxfp4_e2m1")
    for put in (apply, partial(apply_unit, unit="mx_exact")):
        applied = put(module, assignment)
        assert not as_before()
        applied.undo()
        assert as_before()
        module.train(False)
        applied.undo()  # does nothing any more
        assert not module.training
        for part, training in zip(module.modules(), before[0], strict=True):
            part.training = training
    with pytest.raises(DmxError, match="made for another model"):
        apply(module, Assignment.uniform(["nothing"], "mxfp4_e2m1"))
    assert as_before()
    text = TokenText(name="made", sha256="0" * 64, windows=torch.arange(64).reshape(4, 16))
    evaluate(module, assignment, text=text)
    assert as_before()
    allocate(model=module, method="uniform", budget="bits=8")
    assert as_before()
    export(module, assignment, "mxsim", tmp_path / "exported")
    assert as_before()
    search(module, "bits=5", text=text, steps=1, refine=0)
    assert as_before()
    with pytest.raises(DmxError, match="cannot be met"):
        search(module, "bits=3", text=text)
    assert as_before()


WITHOUT_GRADIENTS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("turned_off", WITHOUT_GRADIENTS)
def test_a_caller_who_turned_gradients_off_gets_the_same(turned_off: str) -> None:
    module = random_model("llama")
    text = TokenText(name="made", sha256="0" * 64, windows=torch.arange(64).reshape(4, 16))
    ways = (
        lambda: search(module, "bits=5", text=text, steps=1, refine=0),
        lambda: allocate(module, "first_order", "bits=5", text=text),
        lambda: allocate(module, "fisher", "bits=5", text=text),
    )
    for way in ways:
        with WITHOUT_GRADIENTS[turned_off]():
            found = way()
            assert not torch.is_grad_enabled()
        assert found.layers == way().layers


def test_a_model_that_no_gradient_passes_through_is_refused() -> None:
    with torch.inference_mode():
        module = random_model("llama")
    text = TokenText(name="made", sha256="0" * 64, windows=torch.arange(64).reshape(4, 16))
    for way in (search, partial(allocate, method="fisher"), partial(allocate, method="first_order")):
        with pytest.raises(DmxError, match=r"made under torch\.inference_mode.*make it outside"):
            way(module, budget="bits=5", text=text)


@pytest.mark.parametrize("said", ["x", ["x"]])
def test_a_search_that_says_no_model_is_refused(llama: LoadedModel, said: object) -> None:
    strange = Assignment(layers=Assignment.uniform(llama.linears, "mxfp4_e2m1").layers, search={"model": said})
    with pytest.raises(DmxError, match=r'"search" says of its model .*: \{"name", "sha256"\} is expected'):
        apply(llama, strange)


def test_the_model_is_given_back_after_an_error(llama: LoadedModel) -> None:
    before = content_hash(llama.module)
    with pytest.raises(RuntimeError, match="stop"), apply(llama, Assignment.uniform(llama.linears, "mxfp4_e2m1")):
        raise RuntimeError("stop")
    assert content_hash(llama.module) == before


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 3, 6])
def test_what_stops_apply_half_way_leaves_a_live_module_as_it_was(
    at: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = random_model("llama").train()
    assignment = Assignment.uniform(searched_linears(module), "mxfp4_e2m1")
    text = TokenText(name="made", sha256="0" * 64, windows=torch.arange(64).reshape(4, 16))
    bits = content_hash(module)

    def state() -> list[object]:
        parameters = [(id(one), one.data_ptr(), one.requires_grad) for one in module.parameters()]
        return [parameters, [(part.training, len(part._forward_pre_hooks)) for part in module.modules()]]

    before = state()
    ways = (
        lambda: apply(module, assignment),
        lambda: evaluate(module, assignment, text=text),
        lambda: allocate(module, "kl", "bits=5", text=text, tie=True),  # q, k and v are put in a format together
    )
    for way in ways:
        calls = count(1)

        def failing(*given: Any, calls: Iterator[int] = calls) -> torch.Tensor:
            if next(calls) == at:
                raise error("as it happens")
            return fake_quantize(*given)

        monkeypatch.setattr(quantised_linear, "fake_quantize", failing)
        with pytest.raises(error, match="as it happens"):
            way()
        assert state() == before
    assert content_hash(module) == bits


def test_what_stops_apply_between_two_hooks_takes_off_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    module = random_model("llama")
    linears = searched_linears(module)
    weights = {name: linear.weight for name, linear in linears.items()}

    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(linears["model.layers.1.mlp.up_proj"], "register_forward_pre_hook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply(module, Assignment.uniform(linears, "mxfp4_e2m1"))
    assert all(linear.weight is weights[name] and not linear._forward_pre_hooks for name, linear in linears.items())


def test_weights_are_quantised_from_their_stored_dtype(qwen: LoadedModel) -> None:
    name, linear = next(iter(qwen.linears.items()))
    original = linear.weight.detach().clone()
    x = torch.randn(3, 32)
    with apply(qwen, Assignment.uniform([name], "mxfp4_e2m1:mxfp6_e2m3")):
        expected = fake_quantize(original.to(torch.bfloat16), "mxfp4_e2m1").float()
        assert torch.equal(linear.weight, expected)
        assert torch.equal(linear(x), torch.nn.functional.linear(fake_quantize(x, "mxfp6_e2m3"), expected, linear.bias))


def test_an_assignment_for_another_model_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(DmxError, match="made for another model"):
        apply(llama, Assignment.uniform(["transformer.h.0.fc1"], "mxfp4_e2m1"))


def test_a_file_of_another_model_is_refused(llama: LoadedModel, tmp_path: Path) -> None:
    names = list(llama.linears)
    whole = Assignment.uniform(names, "mxfp8_e4m3")
    part = {name: whole.layers[name] for name in names[:3]}
    told = {"model": {"name": "its sister", "sha256": "0" * 64}}
    refused = (
        (Assignment(layers=part), r"says nothing of 11 linears.*made for another model"),
        (Assignment(layers=whole.layers, search=told), "made for 'its sister' with other weights"),
    )
    for assignment, message in refused:
        assignment.save(tmp_path)
        with pytest.raises(DmxError, match=message):
            read_assignment(llama, tmp_path)
    taken = (
        Assignment(layers=part, skipped=tuple(names[3:])),
        Assignment(layers=whole.layers, search={"model": {"name": "another folder", "sha256": llama.sha256}}),
    )
    for assignment in taken:
        assignment.save(tmp_path)
        assert read_assignment(llama, tmp_path) == assignment
    live = Assignment(layers=part)
    assert read_assignment(llama, live) is live
