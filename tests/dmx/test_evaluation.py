"""Perplexity and divergence against a plain computation."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import FloatLogs, evaluate, report_text  # noqa: E402
from dmx.models import LoadedModel, load_model  # noqa: E402
from dmx.quantised_linear import apply  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from tests.dmx.small_models import with_nan_weight  # noqa: E402


def plain(model: LoadedModel, text: TokenText) -> torch.Tensor:
    """(windows, context - 1, vocabulary) log-probabilities in float64."""
    with torch.no_grad():
        return model.module(input_ids=text.windows).logits[:, :-1].double().log_softmax(-1)


def test_the_float_model(llama: LoadedModel, text: TokenText) -> None:
    found = evaluate(llama, text=text)
    loss = -plain(llama, text).gather(-1, text.windows[:, 1:, None]).mean()
    assert found["perplexity"] == pytest.approx(math.exp(float(loss)), rel=1e-5)
    assert (found["tokens"], found["windows"], found["context"]) == (12 * 31, 12, 32)
    assert found["kl_to_float"] == 0
    assert found["text"]["sha256"] == text.sha256
    assert found["unit"] is found["fake_quantisation"] is None


def test_an_assignment(llama: LoadedModel, text: TokenText, tmp_path: Path) -> None:
    assignment = Assignment.uniform(llama.linears, "mxfp4_e2m1")
    found = evaluate(llama, assignment, text=text)
    reference = plain(llama, text)
    with apply(llama, assignment):
        logs = plain(llama, text)
    divergence = (reference.exp() * (reference - logs)).sum(-1).mean()
    assert found["kl_to_float"] == pytest.approx(float(divergence), rel=1e-4)
    assert found["kl_to_float"] > 0
    assignment.save(tmp_path)
    assert evaluate(llama, tmp_path, text=text)["perplexity"] == found["perplexity"]


def test_bad_input_is_refused(llama: LoadedModel, text: TokenText) -> None:
    with pytest.raises(DmxError, match="pass an assignment"):
        evaluate(llama, text=text, unit="mx_exact")
    with pytest.raises(DmxError, match="pass a unit with it"):
        evaluate(llama, text=text, promote_every=64)
    with pytest.raises(DmxError, match="only the embedded model brings its own"):
        evaluate(llama)


def test_tasks_that_are_not_there_are_refused_before_anything_is_computed(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmx.evaluation.logits_of", lambda *_: pytest.fail("computed"))
    with pytest.raises(DmxError, match="does not exist"):
        evaluate(llama, text=text, tasks=["missing.jsonl"])
    with pytest.raises(DmxError, match="limit of 0"):
        evaluate(llama, text=text, tasks=["recall"], task_limit=0)


@pytest.mark.parametrize("how", ["float", "assignment", "unit"])
def test_a_loss_that_is_not_finite_names_the_module(llama: LoadedModel, text: TokenText, how: str) -> None:
    broken = load_model(with_nan_weight(llama.module, "model.layers.1.post_attention_layernorm.weight"))
    assignment = None if how == "float" else Assignment.uniform(llama.linears, "mxfp4_e2m1")
    with pytest.raises(DmxError, match=r"the loss is nan .* out of 'model\.layers\.1\.post_attention_layernorm'"):
        evaluate(broken, assignment, text=text.first(2), unit="mx_exact" if how == "unit" else None)


def test_a_float_reference_that_is_not_finite_is_told_apart(llama: LoadedModel, text: TokenText) -> None:
    """A module that overflows under the float weights alone."""
    broken = load_model(copy.deepcopy(llama.module))
    watched = broken.linears["model.layers.0.mlp.up_proj"]
    as_float = watched.weight.data_ptr()
    watched.register_forward_hook(lambda part, _, output: output / 0 if part.weight.data_ptr() == as_float else output)
    assignment = Assignment.uniform(broken.linears, "mxfp4_e2m1")
    with pytest.raises(DmxError, match=r"the divergence from the float model, run by itself, is nan .*'model\.layers\.0\.mlp\.up_proj'"):
        evaluate(broken, assignment, text=text)
    assert evaluate(broken, assignment, text=text, kl=False)["perplexity"] > 1


@pytest.mark.parametrize("kept_batches", [0, 1, 99])
def test_float_log_probabilities_are_kept_to_the_same_bits(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch, kept_batches: int
) -> None:
    windows, context = text.windows.shape
    vocabulary = llama.module.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr("dmx.evaluation.BATCH_TOKENS", 4 * context)
    monkeypatch.setattr(FloatLogs, "KEPT_BYTES", kept_batches * 4 * (context - 1) * vocabulary * 4)
    kept, calls = FloatLogs(), []
    for format_name in ("mxfp4_e2m1", "mxfp8_e4m3"):
        assignment = Assignment.uniform(llama.linears, format_name)
        alone = evaluate(llama, assignment, text=text)
        calls.clear()
        counting = llama.module.register_forward_pre_hook(lambda *_: calls.append(None))
        assert evaluate(llama, assignment, text=text, float_logs=kept) == alone
        counting.remove()
    batches_of_text = -(-windows // 4)
    assert len(calls) == 2 * batches_of_text - min(kept_batches, batches_of_text)
    with pytest.raises(DmxError, match=r"not those of .* make new ones"):
        evaluate(llama, assignment, text=text.first(2), float_logs=kept)
    half = load_model(copy.deepcopy(llama.module).bfloat16())
    widened = load_model(copy.deepcopy(half.module).float())
    assert half.sha256 == widened.sha256
    evaluate(half, assignment, text=text, float_logs=(kept := FloatLogs()))
    with pytest.raises(DmxError, match="not those of"):
        evaluate(widened, assignment, text=text, float_logs=kept)


def test_a_large_loss_is_no_error(llama: LoadedModel, text: TokenText) -> None:
    """Of more than 700 nats: finite, with a perplexity beyond float64."""
    broken = load_model(copy.deepcopy(llama.module))
    with torch.no_grad():
        broken.module.get_output_embeddings().weight.mul_(1e4)
    assert evaluate(broken, text=text)["perplexity"] == math.inf


def test_the_embedded_models_report_text_is_as_long_as_one_likes(tmp_path: Path) -> None:
    model = load_model(None)
    own, longer = report_text(model, None, context=64), report_text(model, None, context=64, tokens=80_000)
    assert longer.scored_tokens >= 80_000 > own.scored_tokens
    assert torch.equal(longer.windows[: len(own.windows) - 1], own.windows[:-1])
    (tmp_path / "t.txt").write_text("a text", encoding="utf-8")
    with pytest.raises(DmxError, match="only the embedded model's own text"):
        report_text(model, tmp_path / "t.txt", tokens=80_000)
