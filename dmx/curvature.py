"""Second-order scores: what a pair of formats costs at a linear's output, by the loss's curvature there.

Fisher's estimate of it: the sum over the output's elements of (dL/dout)^2 (out_quantised - out)^2, in the float model. It sees a linear's
weight and input together. It is at its best where every format is close to float; gradients along the ladder, where formats are coarse.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from dmx.calibration import Calibration
from dmx.decisions import DecisionSpace
from dmx.models import LoadedModel
from dmx.observed import QuantisedWeights, observe
from dmx.quantised_linear import InputQuantiser
from dmx.text import TokenText


def curvature_scores(
    model: LoadedModel, space: DecisionSpace, weights: QuantisedWeights, text: TokenText, *, batch_windows: int, progress: bool
) -> npt.NDArray[np.float64]:
    """(decisions, pairs): the summed squares, mean over windows; the gradients are those of a window's mean next-token loss.

    Raises: DmxError where the loss is not finite.
    """
    charged = np.zeros((len(space.layers), len(space.pairs)))
    quantiser = InputQuantiser(weights.policy)

    def observer(i: int, x: torch.Tensor, operand: torch.Tensor, grad: torch.Tensor, grad_x: torch.Tensor) -> None:
        out, slope = functional.linear(x, weights.float[i]), grad.float()
        for pair in range(len(space.pairs)):
            weight, activation = space.rungs(pair)
            value = quantiser(x, space.formats[activation])
            change = functional.linear(value, weights.ladders[i].values[weight].to(x.dtype)).sub_(out).float()
            charged[i, pair] += float(change.mul_(slope).square_().sum(dtype=torch.float64))

    every = torch.arange(len(text.windows))
    calibration = Calibration(model, text, "ce")
    observe(calibration, weights, None, observer, every, batch_windows=batch_windows, progress=progress, title="squared gradients")
    return space.summed(charged / len(text.windows))
