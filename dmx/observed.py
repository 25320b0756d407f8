"""A look at every linear during a backward pass: its input, and the loss's gradient at its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from dmx.calibration import Calibration
from dmx.decisions import DecisionSpace
from dmx.ladder import Ladder, weight_ladder
from dmx.live_modules import Forwards
from dmx.models import LoadedModel
from dmx.quantised_linear import InputQuantiser

#: Windows in one backward pass, where a search does not say otherwise.
BATCH_WINDOWS = 8

#: Given a linear's place in space.layers, its input, the operand that it multiplied, and the gradients at its output and at that operand.
Observer = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]


class _ObservedLinear(torch.autograd.Function):
    """y = operand @ weight^T + bias; rounding the input to the operand passes the gradient straight through."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        anchor: torch.Tensor,
        operand: torch.Tensor,
        weight: Callable[[], torch.Tensor],
        bias: torch.Tensor | None,
        observe: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, operand)
        ctx.weight, ctx.observe = weight, observe
        return functional.linear(operand, weight(), bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, operand = ctx.saved_tensors
        grad_x = grad @ ctx.weight()  # made again: kept, it would be one more copy of every weight
        ctx.observe(x, operand, grad, grad_x)
        return grad_x if ctx.needs_input_grad[0] else None, None, None, None, None, None


class QuantisedWeights:
    """Every searched weight in every format of the ladder, compact, and the weights themselves."""

    def __init__(self, model: LoadedModel, space: DecisionSpace, policy: str, ladders: Sequence[Ladder] = ()) -> None:
        """Args: ladders: the quantised weights, in the order of space.layers, where there are such already."""
        model.need_gradients()
        linears = model.linears
        self.policy, self.formats = policy, space.formats
        self.linears: tuple[nn.Linear, ...] = tuple(linears[name] for name in space.layers)
        self.float: tuple[torch.Tensor, ...] = tuple(linear.weight.detach() for linear in self.linears)
        self.ladders: tuple[Ladder, ...] = tuple(ladders) or tuple(
            weight_ladder(weight, model.stored_dtypes.get(name), space.formats, policy)
            for name, weight in zip(space.layers, self.float, strict=True)
        )


def observe(
    calibration: Calibration,
    weights: QuantisedWeights,
    place: float | None,
    observer: Observer,
    windows: torch.Tensor,
    *,
    batch_windows: int = BATCH_WINDOWS,
    progress: bool,
    title: str,
) -> None:
    """Run windows forwards and backwards, batch by batch, and show the observer each linear; gradients are of the sum over windows.

    Args: windows: their indices.  batch_windows: of a pass.  place: where on the ladder every operand stands during the pass: 0 the
        lowest format, formats - 1 the highest, mixtures of neighbours in between; None for the float model.
    Raises: DmxError where the loss is not finite.
    """
    quantiser = InputQuantiser(weights.policy)
    steps = len(weights.formats) - 1
    degrees = None if place is None else (place - torch.arange(steps, dtype=torch.float32)).clamp(0, 1).tolist()
    anchor = torch.zeros((), requires_grad=True)  # so that linears before any gradient are seen too

    def forward_of(i: int, linear: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
        def weight() -> torch.Tensor:
            return weights.float[i] if degrees is None else weights.ladders[i].mixed(degrees, linear.weight.dtype)

        def forward(x: torch.Tensor) -> torch.Tensor:
            value = x.detach()
            if degrees is not None:
                touched = [quantiser(x, format) if _is_touched(j, degrees) else value for j, format in enumerate(weights.formats)]
                value = Ladder(touched).mixed(degrees)
            apply: Any = _ObservedLinear.apply
            seen = apply(x, anchor, value, weight, linear.bias, lambda *values: observer(i, *values))
            return cast("torch.Tensor", seen)

        return forward

    with ExitStack() as stack:
        forwards = Forwards()
        stack.callback(forwards.restore)
        for i, linear in enumerate(weights.linears):
            forwards.replace(linear, forward_of(i, linear))
        stack.callback(quantiser.forget)
        for index in tqdm(torch.split(windows, batch_windows), desc=title, unit="batch", disable=not progress, leave=False):
            loss = calibration.loss(index)
            calibration.need_finite(float(loss.detach()), index)
            # Sums over batches are then sums over tokens, however the last batch is filled.
            (loss * len(index)).backward()
            quantiser.forget()


def _is_touched(j: int, degrees: Sequence[float]) -> bool:
    """Whether the ladder's format j has any part in the mixture."""
    entered = j == 0 or degrees[j - 1] > 0
    left = j < len(degrees) and degrees[j] == 1.0
    return entered and not left
