"""A model under an assignment: the arithmetic, from stored dtypes, and all of it undone."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import logits_of  # noqa: E402
from dmx.models import LoadedModel, content_hash  # noqa: E402
from dmx.quantised_linear import apply, read_assignment  # noqa: E402
from dmx.quantisers import fake_quantize  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402


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


def test_the_model_is_given_back_after_an_error(llama: LoadedModel) -> None:
    before = content_hash(llama.module)
    with pytest.raises(RuntimeError, match="stop"), apply(llama, Assignment.uniform(llama.linears, "mxfp4_e2m1")):
        raise RuntimeError("stop")
    assert content_hash(llama.module) == before


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
