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


def by_graph(x: torch.Tensor, e: torch.Tensor, m: torch.Tensor, *, floored: bool) -> torch.Tensor:
    """The relaxed quantiser as the paper writes it: every floor and round straight through, x's own scale and exponent constants."""
    top = 2.0 ** (e - 1)
    largest = ((2 - 2.0**-m) * 2.0**top).clamp_max(448.0)
    divisor = 2.0 ** (straight(torch.log2(largest), torch.floor) if floored else top)
    blocks = x.unflatten(-1, (-1, 32))
    scale = torch.exp2(torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True)))) / divisor
    own = straight(torch.log2((blocks / scale).abs()), torch.floor)
    quantum = torch.exp2(torch.maximum(own, (2 - top).expand_as(own)) - m)
    rounded = straight(blocks / scale / quantum, torch.round) * quantum
    return (scale * torch.minimum(torch.maximum(rounded, -largest), largest)).flatten(-2)


@pytest.mark.parametrize("name", ENDS)
def test_the_ends_are_the_formats_bit_for_bit(name: str) -> None:
    x = torch.randn(64, 80, generator=torch.Generator().manual_seed(1))
    value, *_ = sliding(x, *ENDS[name], floored=False)
    assert torch.equal(value, fake_quantize(x, name))
    assert field_widths([name]) == [ENDS[name]]


@pytest.mark.parametrize("floored", [False, True])
@pytest.mark.parametrize("beta", [0.25, 0.3, 0.8, 1.1, 1.4, 1.75, 1.97, 1.995])
def test_closed_form_gradients_match_a_graph(beta: float, floored: bool) -> None:
    """Of any loss and of the error itself, in which saturated elements weigh most; 1.995 is where 448 limits the largest value."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(256, 64, generator=generator).double() * torch.randn(256, 64, generator=generator).double()
    y, by_e, by_m, _ = sliding(x, 2 + beta, 1 + beta, floored=floored)
    for upstream in (torch.randn(256, 64, generator=generator).double(), 2 * (y - x)):
        e, m = (torch.tensor(start + beta, dtype=torch.float64, requires_grad=True) for start in (2, 1))
        graph = by_graph(x, e, m, floored=floored)
        rounds_alike = torch.isclose(y, graph.detach(), rtol=1e-5, atol=1e-5)  # but near a tie, where float32 and float64 part
        assert float(rounds_alike.double().mean()) > 0.9999
        upstream *= rounds_alike
        graph.backward(upstream)
        for closed, exact in ((by_m, m.grad), (by_e, e.grad)):
            size = float((upstream * closed).abs().sum())
            assert float((upstream * closed).sum()) == pytest.approx(float(exact), abs=5e-5 * size)  # type: ignore[arg-type]


@pytest.mark.parametrize("floored", [False, True])
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("exponent", [-149, -140, -130, -126, -60, 0, 60, 120, 127])
def test_the_ends_are_the_formats_at_every_magnitude(name: str, exponent: int, floored: bool) -> None:
    """Below the smallest scale, among float32's subnormals, and up to its largest values."""
    x = torch.rand(16, 96, generator=torch.Generator().manual_seed(exponent + 200)) - 0.5
    x = torch.ldexp(torch.ldexp(x, torch.tensor(exponent // 2)), torch.tensor(exponent - exponent // 2))
    value, *_ = sliding(x, *ENDS[name], floored=floored)
    assert torch.equal(value.view(torch.int32), fake_quantize(x, name).view(torch.int32))


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("name", ENDS)
def test_a_block_that_is_not_finite_is_nan_as_that_of_a_format(name: str, bad: float) -> None:
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    x[0, 40] = bad
    value, *_ = sliding(x, *ENDS[name], floored=True)
    assert torch.equal(value.isnan(), fake_quantize(x, name).isnan())
    assert value[0, 32:].isnan().all()


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


@pytest.mark.parametrize("name", ["mxint8", "nvfp4", "mxfp8_e5m2", "bf16"])
def test_formats_off_the_path_are_refused(name: str) -> None:
    with pytest.raises(DmxError, match=f"do not pass through {name}.*relaxation mix"):
        field_widths(["mxfp4_e2m1", name])
