"""Relaxed linears: exact at vertices, gradients as autograd gives them, shared inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, pairwise, product
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from dmx.continuous import field_widths, sliding_operand  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.ladder import Ladder  # noqa: E402
from dmx.quantisers import fake_quantize  # noqa: E402
from dmx.relax import RelaxedLinearFunction, RelaxedModel, SlidingLinearFunction, vertex  # noqa: E402
from mxsim.formats import FORMATS  # noqa: E402
from mxsim.policies import POLICIES  # noqa: E402

LADDER = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (1, 31, 32, 33, 80)
INTEGERS = {2: torch.int16, 4: torch.int32}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]


def rising(place: int, steps: int) -> torch.Tensor:
    return (torch.arange(steps) < place).float()


def same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Signs of zeros and payloads included. By torch.equal, -0 is 0 and NaN is nothing."""
    integer = INTEGERS[ours.element_size()]
    return ours.dtype == theirs.dtype and torch.equal(ours.view(integer), theirs.view(integer))


def spread_values(width: int, dtype: torch.dtype) -> torch.Tensor:
    """(2, 6, width) of many magnitudes, some of which round to zeros of either sign."""
    x = torch.randn(2, 6, width) * torch.logspace(-4, 4, 6)[:, None]
    x[:, :, ::3] *= 1e-5
    return x.to(dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pair", list(product(FORMATS, repeat=2)), ids=":".join)
def test_a_vertex_has_the_bits_of_fake_quantisation(pair: tuple[str, str], bias: bool) -> None:
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(48, 5, bias=bias).requires_grad_(False), torch.randn(2, 3, 48)
    formats = list(dict.fromkeys(pair)) if pair[0] != pair[1] else [pair[0], next(f for f in FORMATS if f != pair[0])]
    expected = torch.nn.functional.linear(fake_quantize(x, pair[1]), fake_quantize(linear.weight, pair[0]), linear.bias)
    with RelaxedModel({"a": linear}, formats) as relaxed:
        for needs_gradient in (False, True):
            degrees = torch.stack([rising(formats.index(name), 1) for name in pair])[None]
            relaxed.degrees = degrees.requires_grad_(needs_gradient)
            assert torch.equal(linear(x).detach(), expected)
    assert torch.equal(linear(x), torch.nn.functional.linear(x, linear.weight, linear.bias))


@pytest.mark.parametrize("places", [(0, 2), (1, 1), (2, 0)])
def test_a_ladder_of_three_is_exact_at_its_vertices(places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(64, 8).requires_grad_(False), torch.randn(4, 64)
    expected = torch.nn.functional.linear(fake_quantize(x, LADDER[places[1]]), fake_quantize(linear.weight, LADDER[places[0]]), linear.bias)
    with RelaxedModel({"a": linear}, LADDER) as relaxed:
        relaxed.degrees = torch.stack([rising(place, 2) for place in places])[None]
        assert torch.equal(linear(x), expected)
        assert [vertex(row) for row in relaxed.degrees[0]] == list(places)
        assert vertex(torch.tensor([0.5, 0.0])) is None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_a_vertex_is_the_format_in_every_shape_and_dtype(format: str, dtype: torch.dtype, device: str) -> None:
    """What the linear multiplies, bit for bit, of every format at either end of a ladder; through an identity it can be seen."""
    other = next(name for name in FORMATS if name != format)
    for width, formats in product(WIDTHS, ([format, other], [other, format])):
        torch.manual_seed(width)
        x, weight = spread_values(width, dtype).to(device), spread_values(width, dtype)[0].to(device)
        place = formats.index(format)
        ladder = RelaxedModel({"a": holding(weight)}, formats).weights[0]
        assert same_bits(ladder.mixed(rising(place, 1).tolist(), dtype), fake_quantize(weight, format))
        seen: list[torch.Tensor] = []
        linear = holding(weight)
        with RelaxedModel({"a": linear}, formats) as relaxed, operands_shown(seen):
            for needs_gradient in (False, True):
                relaxed.degrees = rising(place, 1).expand(1, 2, 1).clone().requires_grad_(needs_gradient)
                linear(x)
        assert len(seen) == 2
        assert all(same_bits(operand, fake_quantize(x, format)) for operand in seen)


def holding(weight: torch.Tensor) -> torch.nn.Linear:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.device, weight.dtype).requires_grad_(False)
    linear.weight.copy_(weight)
    return linear


@contextmanager
def operands_shown(seen: list[torch.Tensor]) -> Iterator[None]:
    """For a while what linears multiply their weights by is kept."""
    multiply = torch.nn.functional.linear

    def shown(x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().clone())
        return multiply(x, *others)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.functional, "linear", shown)
        yield


@pytest.mark.parametrize("policy", POLICIES)
def test_a_vertex_is_the_policys(policy: str) -> None:
    """MXFP4 and MXFP8 E4M3: what every producer has."""
    torch.manual_seed(1)
    x, linear, formats = spread_values(64, torch.float32), holding(torch.randn(5, 64)), LADDER[::2]
    with RelaxedModel({"a": linear}, formats, policy=policy) as relaxed:
        for place, needs_gradient in product(range(2), (False, True)):
            relaxed.degrees = rising(place, 1).expand(1, 2, 1).clone().requires_grad_(needs_gradient)
            value, weight = (fake_quantize(v, formats[place], policy) for v in (x, linear.weight))
            assert same_bits(linear(x).detach(), torch.nn.functional.linear(value, weight))


@pytest.mark.parametrize("relaxation", ["monotone", "floored"])
def test_bits_that_slide_know_one_policy(relaxation: str) -> None:
    with pytest.raises(DmxError, match="bits slide by policy ocp alone, and would not end at the values of modelopt: take relaxation mix"):
        RelaxedModel({"a": torch.nn.Linear(32, 4)}, LADDER, policy="modelopt", relaxation=relaxation)


def test_the_wide_type_can_be_a_ladders_top() -> None:
    linear, x = torch.nn.Linear(64, 5, bias=False).requires_grad_(False), torch.randn(3, 64, requires_grad=True)
    with RelaxedModel({"a": linear}, ("mxfp4_e2m1", "bf16")) as relaxed:
        relaxed.degrees = torch.ones(1, 2, 1, requires_grad=True)
        out = linear(x)
        assert torch.equal(out, torch.nn.functional.linear(x, linear.weight))
        out.square().sum().backward()
        assert relaxed.degrees.grad is not None
        assert bool((relaxed.degrees.grad != 0).all())


@pytest.mark.parametrize("relaxation", ["mix", "monotone", "floored"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_relaxation_is_hard_at_its_vertices(relaxation: str, dtype: torch.dtype, width: int) -> None:
    """Whatever the shape and dtype, with gradient and without: the soft model ends as the hard one."""
    torch.manual_seed(width)
    linear = torch.nn.Linear(width, 7).to(dtype).requires_grad_(False)
    x = (torch.randn(2, 5, width) * torch.logspace(-4, 4, 5)[:, None]).to(dtype)
    with RelaxedModel({"a": linear}, LADDER, relaxation=relaxation) as relaxed:
        for places, needs_gradient in product(product(range(3), repeat=2), (False, True)):
            weight, value = fake_quantize(linear.weight, LADDER[places[0]]), fake_quantize(x, LADDER[places[1]])
            relaxed.degrees = torch.stack([rising(place, 2) for place in places])[None].requires_grad_(needs_gradient)
            assert torch.equal(linear(x).detach(), torch.nn.functional.linear(value, weight, linear.bias))


def test_between_vertices_a_measurement_sees_what_a_step_sees() -> None:
    """Without gradients and with them the same values; of each relaxation its own."""
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(64, 7).requires_grad_(False), torch.randn(5, 64)
    seen = []
    for relaxation in ("mix", "monotone", "floored"):
        with RelaxedModel({"a": linear}, LADDER[::2], relaxation=relaxation) as relaxed:
            for degrees in ([[0.3], [0.3]], [[0.3], [1.0]], [[0.0], [0.3]]):
                outs = []
                for needs_gradient in (False, True):
                    relaxed.degrees = torch.tensor([degrees]).requires_grad_(needs_gradient)
                    outs.append(linear(x).detach())
                assert torch.equal(*outs)
                seen.append(outs[0])
    assert all(not torch.equal(one, other) for one, other in combinations(seen, 2))


def test_a_weight_is_converted_from_the_dtype_that_it_was_stored_in() -> None:
    """microxcaling looks for a block's scale by a logarithm in that dtype, which bfloat16 rounds up to the next whole one."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(512, 64, bias=False).requires_grad_(False)
    linear.weight.copy_(linear.weight.to(torch.bfloat16))
    dtypes = (torch.bfloat16, torch.float32)
    stored, alone = (fake_quantize(linear.weight.to(dtype), LADDER[0], "microxcaling").float() for dtype in dtypes)
    assert not torch.equal(stored, alone)
    for told, expected in (({"a": torch.bfloat16}, stored), (None, alone)):
        relaxed = RelaxedModel({"a": linear}, LADDER, policy="microxcaling", stored_dtypes=told)
        assert torch.equal(relaxed.weights[0].mixed([0.0, 0.0], torch.float32), expected)


def test_closed_form_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(6, 64), torch.randn(5, 64), torch.randn(5)
    inputs, weights = (tuple(fake_quantize(v, f) for f in LADDER) for v in (x, w))
    degrees = [torch.tensor([0.7, 0.2], requires_grad=True) for _ in range(4)]

    def plain(values: tuple[torch.Tensor, ...], d: torch.Tensor) -> torch.Tensor:
        return values[0] + sum(d[j] * (high - low) for j, (low, high) in enumerate(pairwise(values)))

    leaf, straight = x.clone().requires_grad_(), x.clone().requires_grad_()
    RelaxedLinearFunction.apply(leaf, degrees[0], degrees[1], Ladder(inputs), Ladder(weights), b).square().sum().backward()
    through = plain(inputs, degrees[2]) + (straight - straight.detach())
    torch.nn.functional.linear(through, plain(weights, degrees[3]), b).square().sum().backward()
    for ours, theirs in ((degrees[0], degrees[2]), (degrees[1], degrees[3]), (leaf, straight)):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-4, atol=2e-3)


def test_linears_that_share_an_input_share_its_quantisation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    import dmx.relax

    def counted(x: torch.Tensor, format: str, policy: str = "ocp") -> torch.Tensor:
        calls.append(format)
        return fake_quantize(x, format, policy)

    linears = {name: torch.nn.Linear(32, 4).requires_grad_(False) for name in "qkv"}
    monkeypatch.setattr(dmx.relax, "fake_quantize", counted)
    with RelaxedModel(linears, LADDER[:2]) as relaxed:
        calls.clear()
        relaxed.degrees = torch.full((3, 2, 1), 0.5)
        x = torch.randn(2, 32)
        for linear in linears.values():
            linear(x)
        assert sorted(calls) == sorted(LADDER[:2])


def test_saturated_inputs_pass_no_gradient() -> None:
    widths, degrees = field_widths(("mxfp4_e2m1", "mxfp8_e4m3"), "ocp"), torch.tensor([0.0])
    x = torch.ones(1, 32)
    x[0, :4] = 1.99  # above the largest that the block's scale leaves
    x.requires_grad_()
    weight = torch.ones(1, 32)
    *_, passes = sliding_operand(x.detach(), degrees, widths, floored=False)
    assert passes[0].tolist() == [0.0] * 4 + [1.0] * 28
    function: Any = SlidingLinearFunction.apply
    function(x, degrees, degrees, weight, widths, False, None).sum().backward()
    assert x.grad is not None
    assert (x.grad[0] != 0).tolist() == [False] * 4 + [True] * 28
