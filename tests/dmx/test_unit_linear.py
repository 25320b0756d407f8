"""Linears through a unit: mxsim.matmul's bits, the bias after it, all of it undone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import mxsim  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import evaluate, logits_of  # noqa: E402
from dmx.models import LoadedModel  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from dmx.unit_linear import UnitApplied, apply_unit  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from mxsim.errors import MxsimError  # noqa: E402
from mxsim.units.toml import load_unit  # noqa: E402


@pytest.mark.parametrize("unit", ["nvidia_blackwell", "mx_fp32_chain", "mx_exact"])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_are_the_units(unit: str, bias: bool) -> None:
    torch.manual_seed(1)
    linear, x = torch.nn.Linear(64, 6, bias=bias).requires_grad_(False), torch.randn(2, 5, 64)
    assignment = Assignment.uniform(["a"], "mxfp4_e2m1:mxfp8_e4m3")
    with UnitApplied({"a": linear}, assignment, load_unit(unit), {}) as applied:
        found = linear(x)
    left = mxsim.quantize(x.reshape(-1, 64).numpy(), "mxfp8_e4m3")
    right = mxsim.quantize(linear.weight.numpy(), "mxfp4_e2m1")
    expected = torch.from_numpy(mxsim.matmul(left, right.T, unit=unit))
    expected = expected + linear.bias if bias else expected
    assert torch.equal(found, expected.reshape(2, 5, 6))
    assert 0 <= applied.relative_difference < 1e-4
    assert "forward" not in linear.__dict__


def test_the_wide_type_is_bfloat16() -> None:
    linear, x = torch.nn.Linear(32, 3).requires_grad_(False), torch.randn(4, 32)
    with UnitApplied({"a": linear}, Assignment.uniform(["a"], "bf16"), load_unit("nvidia_hopper_wgmma"), {}):
        found = linear(x)
    left, right = (v.bfloat16().float() for v in (x, linear.weight))
    torch.testing.assert_close(found, torch.nn.functional.linear(left, right, linear.bias), rtol=1e-4, atol=1e-5)


def test_a_model_is_suspended_and_undone(llama: LoadedModel) -> None:
    ids = torch.arange(16)[None]
    before = logits_of(llama.module, ids)
    with apply_unit(llama, Assignment.uniform(llama.linears, "mxfp4_e2m1"), "mx_fp32_chain") as applied:
        inside = logits_of(llama.module, ids)
        with applied.suspended():
            assert torch.equal(logits_of(llama.module, ids), before)
        assert torch.equal(logits_of(llama.module, ids), inside)
    assert not torch.equal(inside, before)
    assert torch.equal(logits_of(llama.module, ids), before)


def test_evaluation_says_how_far_the_unit_is_from_fake_quantisation(llama: LoadedModel, text: TokenText) -> None:
    assignment = Assignment.uniform(llama.linears, "mxfp8_e4m3")
    found = evaluate(llama, assignment, text=text.first(2), unit="nvidia_blackwell")
    plain = evaluate(llama, assignment, text=text.first(2))
    assert found["fake_quantisation"]["perplexity"] == plain["perplexity"]
    assert found["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-2)
    assert np.isfinite(found["fake_quantisation"]["relative_difference_of_outputs"])


def test_what_a_unit_does_not_take_is_its_own_error(llama: LoadedModel) -> None:
    with pytest.raises(MxsimError, match="nvidia_volta has no path for mxfp4_e2m1"):
        apply_unit(llama, Assignment.uniform(llama.linears, "mxfp4_e2m1"), "nvidia_volta")
    with pytest.raises(DmxError, match="made for another model"):
        apply_unit(llama, Assignment.uniform(["x"], "mxfp4_e2m1"), "mx_exact")
