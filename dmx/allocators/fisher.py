"""Fisher: the loss's curvature at each linear's output, from its squared gradients, times the squared change; an ILP chooses.

NVIDIA ModelOpt's AutoQuantize: sum over the elements of the output of (dL/dout)^2 (out_quantised - out)^2, in the float model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dmx.allocators.measured import cached_scores, exact, summed_over_layers
from dmx.allocators.observed import QuantisedWeights, observe
from dmx.allocators.problem import Allocation, Problem, Scores
from dmx.calibration import Calibration
from dmx.quantisers import fake_quantize
from dmx.text import TokenText


def allocate(problem: Problem) -> Allocation:
    """No settings."""
    return exact(problem, cached_scores(problem, "fisher", {}, lambda text: measure(problem, text)), {})


def measure(problem: Problem, text: TokenText) -> Scores:
    """(decisions, pairs): the summed squares, gradients being those of a window's mean loss per token."""
    space, calibration = problem.space, Calibration(problem.model, text, "ce")
    weights = QuantisedWeights(problem.model, space, problem.policy)
    charged = np.zeros((len(space.layers), len(space.pairs)))

    def observer(i: int, x: torch.Tensor, operand: torch.Tensor, grad: torch.Tensor, grad_x: torch.Tensor) -> None:
        out = functional.linear(x, weights.float[i])
        inputs = [fake_quantize(x, format, problem.policy) for format in space.formats]
        for pair in range(len(space.pairs)):
            weight, activation = space.rungs(pair)
            change = functional.linear(inputs[activation], weights.ladders[i][weight]) - out
            charged[i, pair] += float((grad * change).square().sum(dtype=torch.float64))

    every = torch.arange(len(text.windows))
    observe(calibration, weights, None, observer, every, progress=problem.progress, title="squared gradients")
    return summed_over_layers(space, charged / len(text.windows))
