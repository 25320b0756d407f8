"""First-order scores: what each step of the ladder is worth, from the loss's gradient along the way from all-low to all-high."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from dmx.calibration import Calibration, Parts
from dmx.decisions import DecisionSpace
from dmx.errors import DmxError
from dmx.finiteness import where_gradient_not_finite
from dmx.relax import RelaxedModel
from dmx.secants import Secants

#: Places on the way, as shares of it.
PATH = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Where between a vertex and the ladder's middle gradients around a choice are taken: a finite step is seen better from inside.
INWARD = 0.3


def degree_gradient(
    model: RelaxedModel, calibration: Calibration, degrees: torch.Tensor, index: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """d loss / d degrees at some degrees, on the windows of these indices.

    Args: model: entered.  degrees: (linears, 2, formats - 1).  Returns: the gradient, of that shape, and the loss.
    Raises: DmxError where the loss or its gradient is not finite.
    """
    return degree_gradients(model, calibration, degrees, index, [calibration.parts])[0]


def degree_gradients(
    model: RelaxedModel, calibration: Calibration, degrees: torch.Tensor, index: torch.Tensor, made_of: Sequence[Parts]
) -> list[tuple[torch.Tensor, float]]:
    """degree_gradient for each of several losses, all from one forward pass."""
    model.degrees = degrees.detach().clone().requires_grad_()
    losses = [each.mean() for each in calibration.losses_of(index, made_of)]
    found = []
    for i, (loss, parts) in enumerate(zip(losses, made_of, strict=True)):
        value = float(loss.detach())
        calibration.need_finite(value, index)
        if not loss.requires_grad:
            raise DmxError("the loss does not depend on any searched linear: the module does not call them in its forward pass")
        (gradient,) = torch.autograd.grad(loss, model.degrees, retain_graph=i + 1 < len(losses))
        if not bool(torch.isfinite(gradient).all()):
            layers = [name for name, own in zip(model.names, gradient, strict=True) if not bool(torch.isfinite(own).all())]
            where = where_gradient_not_finite(calibration.model.module, partial(_loss_again, calibration, index, parts))
            raise DmxError(
                f"the loss is {value:.4g} on windows {index.tolist()}, but its gradient is not finite for {len(layers)} of "
                f"{len(gradient)} linears, the last of them {layers[-1]!r}: {where}"
            )
        found.append((gradient, value))
    model.degrees = degrees.detach()
    model.forget()
    return found


def _loss_again(calibration: Calibration, index: torch.Tensor, parts: Parts) -> torch.Tensor:
    return calibration.losses_of(index, [parts])[0].mean()


def path_secants(
    model: RelaxedModel, calibration: Calibration, made_of: Sequence[Parts], batch_windows: int, seed: int, progress: bool = False
) -> list[Secants]:
    """The gradients along the straight way from the ladder's foot to its top; each window of the text is looked at once, at one place.

    Args: model: entered.  made_of: the losses; one forward pass serves them all.  batch_windows: of a pass, at most.
    Returns: one for each loss.
    """
    steps = model.degrees.shape[-1]
    places = [step + share for step in range(steps) for share in PATH]
    found = [Secants.empty(len(model.degrees), steps) for _ in made_of]
    windows = calibration.sample(len(calibration.windows), seed, -1)
    looks: list[tuple[torch.Tensor, torch.Tensor]] = []  # degrees and windows
    for i, place in enumerate(places):
        degrees = (place - torch.arange(steps, dtype=torch.float32)).clamp(0, 1).expand_as(model.degrees)
        own = windows[i :: len(places)] if len(windows) >= len(places) else windows
        looks += [(degrees, index) for index in torch.split(own, batch_windows)]
    for degrees, index in tqdm(looks, desc="gradients along the ladder", unit="batch", disable=not progress, leave=False):
        gradients = degree_gradients(model, calibration, degrees, index, made_of)
        for secants, (gradient, _) in zip(found, gradients, strict=True):
            secants.add(degrees, gradient, weight=len(index))
    return found


def pair_scores(space: DecisionSpace, gradient: torch.Tensor) -> npt.NDArray[np.float64]:
    """The predicted loss of every pair of every decision, relative to the lowest formats': sums of the steps' gradients.

    Args: gradient: (linears, 2, formats - 1), linears in the order of space.layers.  Returns: (decisions, pairs).
    """
    by_decision = decision_sums(space, gradient).double().numpy()
    climbed = np.concatenate([np.zeros((*by_decision.shape[:2], 1)), by_decision.cumsum(-1)], -1)
    rungs = np.array([space.rungs(pair) for pair in range(len(space.pairs))])
    return np.asarray(climbed[:, 0, rungs[:, 0]] + climbed[:, 1, rungs[:, 1]], np.float64)


def decision_sums(space: DecisionSpace, per_layer: torch.Tensor) -> torch.Tensor:
    """(linears, ...) -> (decisions, ...): sums over the layers that decide together."""
    sums = torch.zeros(len(space.decisions), *per_layer.shape[1:], dtype=per_layer.dtype)
    return sums.index_add_(0, decision_of_layer(space), per_layer.detach().cpu())


def decision_of_layer(space: DecisionSpace) -> torch.Tensor:
    """(linears,) int64: the decision that each layer belongs to, in the order of space.layers."""
    return torch.tensor([d for d, decision in enumerate(space.decisions) for _ in decision.layers])


def layer_degrees(space: DecisionSpace, choice: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
    """(linears, 2, formats - 1) degrees of 0 and 1 for a choice of pairs."""
    steps = len(space.formats) - 1
    degrees = torch.zeros(len(space.decisions), 2, steps)
    for (d, index), operand in product(enumerate(choice), (0, 1)):
        degrees[d, operand, : space.rungs(int(index))[operand]] = 1.0
    return degrees[decision_of_layer(space)]


def inward(degrees: torch.Tensor) -> torch.Tensor:
    """Degrees of 0 and 1 drawn a little towards the middle."""
    return (1 - INWARD) * degrees + INWARD * 0.5
