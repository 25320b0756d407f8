"""How much of what next-token loss says of formats, beyond KL to the float model, is more than chance.

On some ten thousand tokens the losses of two choices of formats differ for two reasons: one is further from the float model (KL, which
has little noise), and it happens to be righter or wronger about those very tokens. The second part is worth having where the model is far
from the text; where it is at home there, it is mostly noise, which a search would learn by heart. Of it, what goes along with KL, so many
nats of loss to a nat of KL whatever the layer, is real but tells no two choices apart that KL does not; a line through 0 takes it out.
Empirical Bayes for the rest: over its gradients with respect to every degree, the mean squared t-value says by what share they should be
shrunk (Efron and Morris 1973, Stein's estimation rule and its competitors).
"""

from __future__ import annotations

import torch
from tqdm import tqdm

from dmx.calibration import Calibration, Parts
from dmx.decisions import DecisionSpace
from dmx.relax import RelaxedModel
from dmx.scores import decision_sums, degree_gradients

#: Groups of windows that the spread is taken over.
GROUPS = 16
#: Fewer groups than this tell nothing of a spread.
LEAST_GROUPS = 5
KL, BEYOND_KL = Parts(1.0, 0.0), Parts(-1.0, 1.0)


def next_token_share(
    space: DecisionSpace,
    model: RelaxedModel,
    calibration: Calibration,
    degrees: torch.Tensor,
    batch_windows: int,
    seed: int,
    progress: bool = False,
) -> float:
    """What share of (next-token loss - KL) to add to KL at some degrees, 0 to 1; 0 where there are too few windows to tell.

    Every window goes once forwards and twice backwards. Args: model: entered.  degrees: (linears, 2, formats - 1).  batch_windows: of a
        pass, at most.
    """
    windows = calibration.sample(len(calibration.windows), seed, -2)
    if len(windows) < LEAST_GROUPS:
        return 0.0
    groups = torch.tensor_split(windows, min(GROUPS, len(windows)))

    def gradients(group: torch.Tensor) -> list[torch.Tensor]:
        """Of what is beyond KL, and of KL, each (entries,)."""
        looks = [
            (len(index), degree_gradients(model, calibration, degrees, index, (BEYOND_KL, KL)))
            for index in torch.split(group, batch_windows)
        ]
        sums = (torch.stack([count * found[i][0] for count, found in looks]).sum(0) / len(group) for i in range(2))
        by_decision = (decision_sums(space, each) for each in sums)
        return [(each if space.apart else each.sum(1)).flatten().double() for each in by_decision]

    shown = tqdm(groups, desc="chance in next-token loss", unit="group", disable=not progress, leave=False)
    found = [gradients(group) for group in shown]
    beyond, kl = (torch.stack(each) for each in zip(*found, strict=True))
    return share_beyond_chance(beyond, kl.mean(0))


def share_beyond_chance(beyond: torch.Tensor, kl: torch.Tensor) -> float:
    """What share of `beyond` to add to `kl`, so that together they are, up to a factor, the likeliest means of both.

    Were beyond = a kl + rest, each of rest drawn around 0 with the same ratio of spread to error, then (1 + a) kl + s rest it would be,
    s being what rest should be shrunk by; which is kl + beyond s / (1 + a (1 - s)), times a factor. A priori a is normal around 0, with a
    spread of 1.
    Args: beyond: (times, entries), times at least 4; entries that never differ are left out.  kl: (entries,), taken as without error.
    Returns: 0 to 1, 1 where a is -1 or less; and 0 where fewer than two entries are left.
    """
    times = len(beyond)
    squared_errors = beyond.var(0) / times
    told = squared_errors > 0
    if int(told.sum()) < 2:
        return 0.0
    by_chance = (times - 1) / (times - 3)  # the mean of a squared t-value
    errors = squared_errors[told].sqrt()
    t_values, along = beyond.mean(0)[told] / errors, kl[told] / errors
    slope = float(t_values @ along) / (float(along.square().sum()) + by_chance)
    if slope <= -1.0:  # next-token loss falls where KL rises
        return 1.0
    mean_square = float((t_values - slope * along).square().sum()) / (len(along) - 1)
    kept = max(0.0, 1.0 - by_chance / max(mean_square, by_chance))
    return kept / (1.0 + slope * (1.0 - kept))
