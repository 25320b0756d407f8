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
from dmx.ladder import Ladder, compact, weight_ladder
from dmx.last_input import LastInput
from dmx.live_modules import Forwards
from dmx.quantisers import fake_quantize


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
        ctx.save_for_backward(*inputs.values)
        ctx.weights, ctx.degrees, ctx.degrees_device = weights, (input_degrees.tolist(), weight_degrees.tolist()), input_degrees.device
        return functional.linear(inputs.mixed(ctx.degrees[0], x.dtype), weights.mixed(ctx.degrees[1], x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        input_degrees, weight_degrees = ctx.degrees
        inputs = Ladder(ctx.saved_tensors)
        grad_x = grad @ ctx.weights.mixed(weight_degrees, grad.dtype)  # mixed again: kept, it would be one more copy of every weight
        grad_inputs = grad_weights = None
        if ctx.needs_input_grad[1]:
            grad_inputs = inputs.products(grad_x).to(ctx.degrees_device)
        if ctx.needs_input_grad[2]:
            x = inputs.mixed(input_degrees, grad.dtype)
            grad_weights = ctx.weights.products(grad.flatten(0, -2).t() @ x.flatten(0, -2)).to(ctx.degrees_device)
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
        self._widths = None if relaxation == "mix" else field_widths(self.formats, policy)
        self._linears = dict(linears)
        self._forwards = Forwards()
        self.weights: list[Ladder] = []  #: of each linear, compact
        stored = stored_dtypes or {}
        for name, linear in self._linears.items():
            self.weights.append(weight_ladder(linear.weight.detach(), stored.get(name), self.formats, policy))
        self._values = LastInput[torch.Tensor]()  #: in a place's format
        self._ladder = LastInput[Ladder]()
        self.degrees = torch.zeros(len(self.names), 2, len(self.formats) - 1)

    @property
    def degrees(self) -> torch.Tensor:
        return self._degrees

    @degrees.setter
    def degrees(self, degrees: torch.Tensor) -> None:
        self._degrees = degrees
        self._rows = degrees.flatten(0, 1).unbind()  # at once: for each linear by itself, autograd would fill a whole gradient
        self.forget()

    def __enter__(self) -> RelaxedModel:
        for i, linear in enumerate(self._linears.values()):
            self._forwards.replace(linear, self._relaxed(i, linear))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._forwards.restore()
        self.forget()

    def forget(self) -> None:
        """Let go of the last input."""
        self._values.forget()
        self._ladder.forget()

    def _input_value(self, x: torch.Tensor, place: int) -> torch.Tensor:
        """x in the ladder's format at a place; linears that share an input share the work."""
        return self._values.made(x, place, lambda: fake_quantize(x.detach(), self.formats[place], self.policy))

    def _input_ladder(self, x: torch.Tensor) -> Ladder:
        """x in every format; compact where it will be kept for a backward pass."""
        return self._ladder.made(x, "ladder", lambda: self._new_ladder(x))

    def _new_ladder(self, x: torch.Tensor) -> Ladder:
        # Off the CPU it would have to be waited for whether bfloat16 holds them.
        if self.degrees.requires_grad and x.device.type == "cpu":
            return Ladder([compact(fake_quantize(x.detach(), format, self.policy)) for format in self.formats])
        return Ladder([self._input_value(x, place) for place in range(len(self.formats))])

    def _relaxed(self, i: int, linear: nn.Linear) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            weight_degrees, input_degrees = self._rows[2 * i : 2 * i + 2]
            if not self.degrees.requires_grad:
                return self._hard_or_mixed(i, x, weight_degrees, input_degrees, linear)
            if self._widths is not None:
                slide: Any = SlidingLinearFunction.apply
                floored = self.relaxation == "floored"
                return cast("torch.Tensor", slide(x, input_degrees, weight_degrees, linear.weight, self._widths, floored, linear.bias))
            apply: Any = RelaxedLinearFunction.apply
            return cast("torch.Tensor", apply(x, input_degrees, weight_degrees, self._input_ladder(x), self.weights[i], linear.bias))

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
            value = self._input_ladder(x).mixed(input_degrees.tolist())
        else:
            value = self._input_value(x, place)
        return functional.linear(value, self.weights[i].mixed(weight_degrees.tolist(), linear.weight.dtype), linear.bias)


def vertex(degrees: torch.Tensor) -> int | None:
    """The place on the ladder that degrees of 0 and 1 stand for; None in between."""
    steps = degrees.tolist()
    taken = sum(step == 1.0 for step in steps)
    return taken if steps == [1.0] * taken + [0.0] * (len(steps) - taken) else None
