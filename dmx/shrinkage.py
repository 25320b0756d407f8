"""How much of what next-token loss says of formats, beyond KL to the float model, is more than chance.

On some ten thousand tokens the losses of two choices of formats differ for two reasons: one is further from the float model (KL, which
has little noise), and it happens to be righter or wronger about those very tokens. The second part is worth having where the model is far
from the text; where it is at home there, it is mostly noise, which a search would learn by heart. Empirical Bayes: over the gradients of
the second part with respect to every degree, the mean squared t-value says by what share they should be shrunk (Efron and Morris 1973,
Stein's estimation rule and its competitors).
"""

from __future__ import annotations

import torch
from tqdm import tqdm

from dmx.calibration import Calibration
from dmx.decisions import DecisionSpace
from dmx.relax import RelaxedModel
from dmx.scores import decision_sums, degree_gradient

#: Groups of windows that the spread is taken over.
GROUPS = 16
#: Fewer groups than this tell nothing of a spread.
LEAST_GROUPS = 5


def next_token_share(
    space: DecisionSpace,
    model: RelaxedModel,
    calibration: Calibration,
    degrees: torch.Tensor,
    batch_windows: int,
    seed: int,
    progress: bool = False,
) -> float:
    """The share of (next-token loss - KL) that is more than chance at some degrees, 0 to 1; 0 where there are too few windows to tell.

    Every window is looked at once. Args: model: entered.  degrees: (linears, 2, formats - 1).  batch_windows: of a pass, at most.
    """
    windows = calibration.sample(len(calibration.windows), seed, -2)
    if len(windows) < LEAST_GROUPS:
        return 0.0
    found = []
    with calibration.beyond_kl():
        groups = torch.tensor_split(windows, min(GROUPS, len(windows)))
        for group in tqdm(groups, desc="chance in next-token loss", unit="group", disable=not progress, leave=False):
            parts = [len(index) * degree_gradient(model, calibration, degrees, index)[0] for index in torch.split(group, batch_windows)]
            by_decision = decision_sums(space, torch.stack(parts).sum(0) / len(group))
            found.append((by_decision if space.apart else by_decision.sum(1)).flatten())
    return share_beyond_chance(torch.stack(found).double())


def share_beyond_chance(measured: torch.Tensor) -> float:
    """By what share means should be shrunk towards 0, were each drawn around 0 with the same ratio of spread to error.

    Args: measured: (times, entries), times at least 4; entries that never differ are left out.  Returns: 0 to 1, and 0 where none is left.
    """
    times = len(measured)
    squared_errors = measured.var(0) / times
    told = squared_errors > 0
    if not told.any():
        return 0.0
    squares = measured.mean(0)[told].square() / squared_errors[told]
    by_chance = (times - 1) / (times - 3)  # the mean of a squared t-value
    return max(0.0, 1.0 - by_chance / max(float(squares.mean()), by_chance))
