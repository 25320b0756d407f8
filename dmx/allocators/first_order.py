"""First order: each format is charged the loss's gradient times the change that it makes, and the knapsack chooses.

AutoScheme (Intel auto-round) sums |g (x - Qx)| over the elements of weight and input, for each format with the model wholly in it: that is
the default. Where the gradient is taken and whether signs cancel matter more than anything else, so both are settings; signed products
along the path from the lowest format to the highest are the strongest measured, and what dMX starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch

from dmx.allocators.measured import cached_scores, exact
from dmx.allocators.problem import Allocation, Problem, Scores
from dmx.calibration import Calibration
from dmx.errors import DmxError
from dmx.observed import Observer, QuantisedWeights, observe
from dmx.quantisers import fake_quantize
from dmx.scores import PATH
from dmx.text import TokenText

#: point -> shares of the way from the ladder's lowest format to its highest at which gradients are taken and averaged; "own": each format
#: with the model wholly in it
POINTS: Mapping[str, tuple[float, ...]] = MappingProxyType({"own": (), "low": (0.0,), "middle": (0.5,), "high": (1.0,), "path": PATH})
#: what is summed over the elements: the products' sizes, as AutoScheme does, or the products: the first-order term of the loss itself
REDUCTIONS = ("abs", "signed")
DEFAULTS = {"point": "own", "reduction": "abs"}


def allocate(problem: Problem) -> Allocation:
    """Settings: point, one of POINTS; reduction, one of REDUCTIONS."""
    settings = {**DEFAULTS, **problem.settings}
    if settings["point"] not in POINTS or settings["reduction"] not in REDUCTIONS:
        raise DmxError(f"first_order takes point {', '.join(POINTS)} and reduction {', '.join(REDUCTIONS)}; got {settings}")
    scores = cached_scores(problem, "first_order", settings, lambda text: measure(problem, text, settings["point"], settings["reduction"]))
    return exact(problem, scores, settings)


def measure(problem: Problem, text: TokenText, point: str, reduction: str) -> Scores:
    """(decisions, pairs): mean over tokens of the loss charged to each pair."""
    space, calibration = problem.space, Calibration(problem.model, text, "ce")
    weights = QuantisedWeights(problem.model, space, problem.policy)
    charged = np.zeros((2, len(space.layers), len(space.formats)))  # weights, inputs

    def charge(gradient: torch.Tensor, exact_value: torch.Tensor, quantised: torch.Tensor) -> float:
        product = gradient * (quantised - exact_value)
        return float((product.abs() if reduction == "abs" else product).sum(dtype=torch.float64))

    def observer(formats: range) -> Observer:
        def observe_linear(i: int, x: torch.Tensor, operand: torch.Tensor, grad: torch.Tensor, grad_x: torch.Tensor) -> None:
            grad_weight = grad.reshape(-1, grad.shape[-1]).t() @ operand.reshape(-1, operand.shape[-1])
            for j in formats:
                charged[0, i, j] += charge(grad_weight, weights.float[i], weights.ladders[i].values[j].to(grad_weight.dtype))
                charged[1, i, j] += charge(grad_x, x, fake_quantize(x, space.formats[j], problem.policy))

        return observe_linear

    def look(place: float, formats: range, windows: torch.Tensor) -> None:
        title = f"gradients at {place:g} on the ladder"
        observe(calibration, weights, place, observer(formats), windows, progress=problem.progress, title=title)

    every, count = torch.arange(len(text.windows)), len(space.formats)
    if point == "own":
        for j in range(count):
            look(j, range(j, j + 1), every)
        charged /= len(every)
    else:
        shares = POINTS[point]
        # Each place sees windows of its own, so that a way costs no more than a point; every window where there are too few.
        parts = [every[k :: len(shares)] if len(every) >= len(shares) else every for k in range(len(shares))]
        for share, part in zip(shares, parts, strict=True):
            look(share * (count - 1), range(count), part)
        charged /= sum(map(len, parts))
    rungs = np.array([space.rungs(pair) for pair in range(len(space.pairs))])
    return space.summed(charged[0][:, rungs[:, 0]] + charged[1][:, rungs[:, 1]])
