"""How much of what next-token loss says of formats, beyond KL to the float model, is more than chance.

On some ten thousand tokens the losses of two choices of formats differ for two reasons: one is further from the float model (KL, which
has little noise), and it happens to be righter or wronger about those very tokens. The second part is worth having where the model is far
from the text; where it is at home there, it is mostly noise, which a search would learn by heart. Empirical Bayes: over the gradients of
the second part with respect to every degree, the mean squared t-value says by what share they should be shrunk (Efron and Morris 1973,
Stein's estimation rule and its competitors).
"""

from __future__ import annotations

import torch

from dmx.calibration import Calibration
from dmx.relax import RelaxedModel
from dmx.scores import degree_gradient

#: Groups of windows that the spread is taken over.
GROUPS = 16
#: Fewer groups than this tell nothing of a spread.
LEAST_GROUPS = 5


def next_token_share(model: RelaxedModel, calibration: Calibration, degrees: torch.Tensor, seed: int) -> float:
    """The share of (next-token loss - KL) that is more than chance at some degrees, 0 to 1; 0 where there are too few windows to tell.

    Every window is looked at once, for both losses. Args: model: entered.  degrees: (linears, 2, formats - 1).
    """
    windows = calibration.sample(len(calibration.windows), seed, -2)
    groups = torch.tensor_split(windows, min(GROUPS, len(windows)))
    if len(groups) < LEAST_GROUPS:
        return 0.0
    rest = torch.stack([_difference(model, calibration, degrees, index) for index in groups]).double()
    count = len(groups)
    squares = rest.mean(0).square() / (rest.var(0) / count).clamp_min(torch.finfo(torch.float64).tiny)
    by_chance = (count - 1) / (count - 3)  # of a squared t-value
    return max(0.0, 1.0 - by_chance / float(squares.mean().clamp_min(by_chance)))


def _difference(model: RelaxedModel, calibration: Calibration, degrees: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(entries,) the gradient of next-token loss less that of KL."""
    found = []
    for share in (1.0, 0.0):
        with calibration.sharing(share):
            found.append(degree_gradient(model, calibration, degrees, index)[0].flatten())
    return found[0] - found[1]
