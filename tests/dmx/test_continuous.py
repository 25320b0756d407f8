"""Sliding bits: their ends are the formats, their closed-form gradients are those of a graph that passes floors and rounds through."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from dmx.continuous import field_widths, sliding, sliding_operand
from dmx.errors import DmxError
from dmx.quantisers import fake_quantize

ENDS = {"mxfp4_e2m1": (2, 1), "mxfp6_e2m3": (2, 3), "mxfp6_e3m2": (3, 2), "mxfp8_e4m3": (4, 3)}


def straight(value: torch.Tensor, function: object) -> torch.Tensor:
    return value + (function(value) - value).detach()  # type: ignore[operator]


def by_graph(x: torch.Tensor, e: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """The relaxed quantiser with thr = 2^emax, every floor and round straight through, x's scale and exponent detached."""
    top = 2.0 ** (e - 1)
    blocks = x.unflatten(-1, (-1, 32))
    binade = torch.exp2(torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True))))
    scale = binade / 2.0**top
    largest = (2 - 2.0**-m) * 2.0**top
    own = (torch.floor(torch.log2((blocks / scale).abs())) + torch.log2(scale) - torch.log2(scale).detach()).detach() + (
        torch.log2(scale).detach() - torch.log2(scale)
    )
    lowest = 2 - top
    exponent = torch.maximum(own, lowest.expand_as(own)) - m
    quantum = torch.exp2(exponent)
    rounded = straight(blocks / scale / quantum, torch.round) * quantum
    return (scale * torch.minimum(torch.maximum(rounded, -largest), largest)).flatten(-2)


@pytest.mark.parametrize("name", ENDS)
def test_the_ends_are_the_formats_bit_for_bit(name: str) -> None:
    x = torch.randn(64, 80, generator=torch.Generator().manual_seed(1))
    value, *_ = sliding(x, *ENDS[name], floored=False)
    assert torch.equal(value, fake_quantize(x, name))
    assert field_widths([name]) == [ENDS[name]]


@pytest.mark.parametrize("beta", [0.3, 0.8, 1.4])
def test_closed_form_gradients_match_a_graph(beta: float) -> None:
    x = torch.randn(128, 64, generator=torch.Generator().manual_seed(2)).double()
    e, m = (torch.tensor(start + beta, dtype=torch.float64, requires_grad=True) for start in (2, 1))
    upstream = torch.randn(128, 64, generator=torch.Generator().manual_seed(3)).double()
    graph = by_graph(x, e, m)
    graph.backward(upstream)
    y, by_e, by_m, _ = sliding(x, 2 + beta, 1 + beta, floored=False)
    assert torch.allclose(y, graph.detach(), atol=1e-5)
    assert e.grad is not None
    assert m.grad is not None
    assert float((upstream * by_m).sum()) == pytest.approx(float(m.grad), rel=1e-4, abs=1e-4)
    assert float((upstream * by_e).sum()) == pytest.approx(float(e.grad), rel=1e-4, abs=1e-4)


def test_the_error_falls_almost_evenly_with_the_moving_divisor_and_jumps_with_the_floored_one() -> None:
    x = torch.randn(4096, 32, generator=torch.Generator().manual_seed(4))
    betas = (0.0, 0.25, 0.5, 0.75, 1.0, 1.1, 1.5, 1.9)

    def errors(floored: bool) -> list[float]:
        return [float((sliding(x, 2 + b, 1 + b, floored=floored)[0] - x).square().mean()) for b in betas]

    moving = errors(False)
    assert all(later < earlier for earlier, later in pairwise(moving))
    floored = errors(True)
    assert floored[1] > 2 * floored[0]
    assert floored[5] > 5 * floored[4]


def test_a_ladder_of_three_goes_through_its_middle() -> None:
    x = torch.randn(8, 32, generator=torch.Generator().manual_seed(5))
    widths = field_widths(["mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3"])
    value, slopes, passes = sliding_operand(x, torch.tensor([1.0, 0.0]), widths, floored=False)
    assert torch.equal(value, fake_quantize(x, "mxfp6_e2m3"))
    assert len(slopes) == 2
    assert set(passes.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["mxint8", "nvfp4", "mxfp8_e5m2"])
def test_formats_off_the_path_are_refused(name: str) -> None:
    with pytest.raises(DmxError, match="relaxation mix"):
        field_widths(["mxfp4_e2m1", name])
