"""Linears whose formats slide: a step of the ladder may be taken in part, and the loss has a gradient in how far.

An operand is q_0 + sum over steps of degree_j (q_j - q_{j-1}), q_j being its value in the ladder's format j. At degrees of 0 and 1 that is
one format's value, bit for bit: no arithmetic is done on a step that is taken whole or not at all. The gradients are closed forms:
d loss / d degree_j is the inner product of the operand's gradient with q_j - q_{j-1}, and rounding passes gradients straight through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from dmx.continuous import field_widths, sliding_operand
from dmx.quantisers import fake_quantize

Ladder = tuple[torch.Tensor, ...]  #: an operand's value in each format of the ladder; compact where it is kept for long


def mixed(values: Ladder, degrees: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The operand at the given degrees.

    Args: values: equal shapes.  degrees: (formats - 1,), falling.  dtype: of the result, where values are kept compact.
    A degree of exactly 1 restarts from the upper format's own value and one of 0 adds nothing, so that a vertex is exact.
    """
    place, between = 0, None
    for j, degree in enumerate(degrees.tolist()):
        if degree == 1.0:
            place, between = j + 1, None
        elif degree > 0.0:
            low, high = _wide(values[j], dtype), _wide(values[j + 1], dtype)
            if between is None and place == j:
                between = torch.lerp(low, high, degree)
            else:
                taken = (high - low).mul_(degree)
                between = taken.add_(_wide(values[place], dtype) if between is None else between)
    return _wide(values[place], dtype) if between is None else between


def compact(value: torch.Tensor) -> torch.Tensor:
    """The same numbers as bfloat16 where that holds every one, as it does an MX format's unless they are subnormal; else as they are."""
    narrow = value.to(torch.bfloat16)
    return narrow if torch.equal(narrow.to(value.dtype), value) else value


def weight_ladder(weight: torch.Tensor, stored: torch.dtype | None, formats: Sequence[str], policy: str) -> Ladder:
    """A weight in each format, compact. Args: stored: the dtype that its checkpoint has it in, where that is another."""
    source = weight if stored is None else weight.to(stored)
    return tuple(compact(fake_quantize(source, format, policy).to(weight.dtype)) for format in formats)


def _wide(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return value if dtype is None else value.to(dtype)


class RelaxedLinearFunction(torch.autograd.Function):
    """y = mixed(inputs) @ mixed(weights)^T + bias, differentiable in x (straight through) and in both operands' degrees."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        input_degrees: torch.Tensor,
        weight_degrees: torch.Tensor,
        inputs: Ladder,
        weights: Ladder,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(input_degrees, weight_degrees, *inputs)
        ctx.weights = weights
        return functional.linear(mixed(inputs, input_degrees), mixed(weights, weight_degrees, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        input_degrees, weight_degrees, *inputs = ctx.saved_tensors
        grad_x = grad @ mixed(ctx.weights, weight_degrees, grad.dtype)  # mixed again: kept, it would be one more copy of every weight
        grad_inputs = grad_weights = None
        if ctx.needs_input_grad[1]:
            flat = grad_x.reshape(-1)
            grad_inputs = _inner(flat, inputs).to(input_degrees.device)
        if ctx.needs_input_grad[2]:
            x = mixed(tuple(inputs), input_degrees)
            flat = (grad.reshape(-1, grad.shape[-1]).t() @ x.reshape(-1, x.shape[-1])).reshape(-1)
            grad_weights = _inner(flat, ctx.weights).to(weight_degrees.device)
        return grad_x if ctx.needs_input_grad[0] else None, grad_inputs, grad_weights, None, None, None


class SlidingLinearFunction(torch.autograd.Function):
    """The same with operands whose exponent and significand bits slide (see dmx.continuous); saturated inputs pass no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        input_degrees: torch.Tensor,
        weight_degrees: torch.Tensor,
        weight: torch.Tensor,
        widths: Sequence[tuple[int, int]],
        floored: bool,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        inputs, by_input, passes = sliding_operand(x, input_degrees, widths, floored=floored)
        weights, by_weight, _ = sliding_operand(weight, weight_degrees, widths, floored=floored)
        ctx.save_for_backward(inputs, weights, passes, *by_input, *by_weight)
        ctx.degrees_device = input_degrees.device
        return functional.linear(inputs, weights, bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        inputs, weights, passes, *slopes = ctx.saved_tensors
        steps = len(slopes) // 2
        grad_inputs = grad @ weights
        grad_weights = grad.reshape(-1, grad.shape[-1]).t() @ inputs.reshape(-1, inputs.shape[-1])
        by_input = torch.stack([torch.dot(grad_inputs.reshape(-1), slope.reshape(-1)) for slope in slopes[:steps]])
        by_weight = torch.stack([torch.dot(grad_weights.reshape(-1), slope.reshape(-1)) for slope in slopes[steps:]])
        by_input, by_weight = by_input.to(ctx.degrees_device), by_weight.to(ctx.degrees_device)
        return grad_inputs * passes, by_input, by_weight, None, None, None, None


def _inner(gradient: torch.Tensor, values: Sequence[torch.Tensor]) -> torch.Tensor:
    """(formats - 1,) <gradient, high - low> of each step of a ladder, without the differences."""
    products = torch.stack([torch.dot(gradient, value.reshape(-1).to(gradient.dtype)) for value in values])
    return products[1:] - products[:-1]


class RelaxedModel:
    """A module whose searched linears are relaxed, in place; leaving the context gives it back.

    degrees: (linears, 2, formats - 1), of weights and of inputs; set them before a forward pass. With requires_grad, a backward pass
    leaves the loss's gradient in degrees.grad.
    """

    def __init__(
        self,
        linears: Mapping[str, nn.Linear],
        formats: Sequence[str],
        *,
        policy: str = "ocp",
        stored_dtypes: Mapping[str, torch.dtype] | None = None,
        relaxation: str = "mix",
    ) -> None:
        self.names = tuple(linears)
        self.formats = tuple(formats)
        self.policy = policy
        self.relaxation = relaxation
        self.degrees = torch.zeros(len(self.names), 2, len(self.formats) - 1)
        self._widths = None if relaxation == "mix" else field_widths(self.formats)
        self._linears = dict(linears)
        self._forwards: dict[str, Any] = {}
        self.weights: list[Ladder] = []  #: of each linear, compact
        stored = stored_dtypes or {}
        for name, linear in self._linears.items():
            self.weights.append(weight_ladder(linear.weight.detach(), stored.get(name), self.formats, policy))
        self._input: torch.Tensor | None = None
        self._ladder: dict[int, torch.Tensor] = {}

    def __enter__(self) -> RelaxedModel:
        for i, (name, linear) in enumerate(self._linears.items()):
            self._forwards[name] = linear.forward
            linear.forward = self._relaxed(i, linear)  # type: ignore[method-assign]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name, linear in self._linears.items():
            linear.forward = self._forwards[name]  # type: ignore[method-assign]
        self.forget()

    def forget(self) -> None:
        """Let go of the last input."""
        self._input, self._ladder = None, {}

    def _input_value(self, x: torch.Tensor, place: int) -> torch.Tensor:
        """x in the ladder's format at a place; linears that share an input share the work."""
        if x is not self._input:
            self._input, self._ladder = x, {}
        if place not in self._ladder:
            self._ladder[place] = fake_quantize(x, self.formats[place], self.policy)
        return self._ladder[place]

    def _relaxed(self, i: int, linear: nn.Linear) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            weight_degrees, input_degrees = self.degrees[i]
            if not self.degrees.requires_grad:
                return self._hard_or_mixed(i, x, weight_degrees, input_degrees, linear)
            if self._widths is not None:
                slide: Any = SlidingLinearFunction.apply
                floored = self.relaxation == "floored"
                return cast("torch.Tensor", slide(x, input_degrees, weight_degrees, linear.weight, self._widths, floored, linear.bias))
            inputs = tuple(self._input_value(x, place) for place in range(len(self.formats)))
            apply: Any = RelaxedLinearFunction.apply
            return cast("torch.Tensor", apply(x, input_degrees, weight_degrees, inputs, self.weights[i], linear.bias))

        return forward

    def _hard_or_mixed(
        self, i: int, x: torch.Tensor, weight_degrees: torch.Tensor, input_degrees: torch.Tensor, linear: nn.Linear
    ) -> torch.Tensor:
        """Without gradients: only the formats that the degrees touch are computed."""
        place = vertex(input_degrees)
        if self._widths is not None and (place is None or vertex(weight_degrees) is None):
            floored = self.relaxation == "floored"
            value = sliding_operand(x, input_degrees, self._widths, floored=floored)[0]
            return functional.linear(value, sliding_operand(linear.weight, weight_degrees, self._widths, floored=floored)[0], linear.bias)
        if place is None:
            value = mixed(tuple(self._input_value(x, p) for p in range(len(self.formats))), input_degrees)
        else:
            value = self._input_value(x, place)
        return functional.linear(value, mixed(self.weights[i], weight_degrees, linear.weight.dtype), linear.bias)


def vertex(degrees: torch.Tensor) -> int | None:
    """The place on the ladder that degrees of 0 and 1 stand for; None in between."""
    steps = degrees.tolist()
    taken = sum(step == 1.0 for step in steps)
    return taken if steps == [1.0] * taken + [0.0] * (len(steps) - taken) else None
