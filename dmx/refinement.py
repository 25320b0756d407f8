"""The end of a search: exchanges between decisions, within the budgets, that are kept where the measured loss falls."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from dmx.budget import Constraint
from dmx.calibration import Calibration
from dmx.decisions import DecisionSpace
from dmx.relax import RelaxedModel
from dmx.scores import degree_gradient, layer_degrees, pair_scores

Choice = npt.NDArray[np.int64]
#: Where between a vertex and the ladder's middle the gradient for exchanges is taken: a finite step is seen better from inside.
INWARD = 0.3
#: Windows of a forward pass that measures.
MEASURED_AT_ONCE = 16


class Measure:
    """The loss of choices on the whole calibration text, window by window, each measured once."""

    def __init__(
        self, space: DecisionSpace, model: RelaxedModel, calibration: Calibration, known: dict[str, list[float]] | None = None
    ) -> None:
        self.space, self.model, self.calibration = space, model, calibration
        self.known = known if known is not None else {}

    def __call__(self, choice: Choice) -> float:
        """The mean loss per token of a choice."""
        return math.fsum(self._losses(choice)) / len(self.calibration.windows)

    def is_better(self, choice: Choice, than: Choice) -> bool:
        """Whether the loss is lower by more than its standard error over the windows: what less would be, other text may undo."""
        gains = [old - new for old, new in zip(self._losses(than), self._losses(choice), strict=True)]
        if len(gains) < 2:
            return gains[0] > 0
        return statistics.fmean(gains) > statistics.stdev(gains) / math.sqrt(len(gains))

    def _losses(self, choice: Choice) -> list[float]:
        key = ".".join(str(int(i)) for i in choice)
        if key not in self.known:
            self.known[key] = self.losses(layer_degrees(self.space, choice))
        return self.known[key]

    def losses(self, degrees: torch.Tensor) -> list[float]:
        """Each window's mean loss per token at any degrees."""
        found: list[float] = []
        with torch.no_grad():
            self.model.degrees = degrees
            for index in torch.split(torch.arange(len(self.calibration.windows)), MEASURED_AT_ONCE):
                found += self.calibration.losses(index).tolist()
        self.model.forget()
        return found


def refine(
    start: Choice,
    space: DecisionSpace,
    constraints: Sequence[Constraint],
    model: RelaxedModel,
    calibration: Calibration,
    measure: Measure,
    *,
    measurements: int,
    batch_windows: int,
    seed: int,
    save: Callable[[], None],
    progress: bool,
) -> tuple[Choice, int]:
    """Exchange formats between decisions while the measured loss falls.

    The gradient near the choice foretells what each move is worth; the most promising moves that stay within the budgets are measured,
    and the first that lowers the loss by more than its standard error is taken.
    Args: measurements: how many at most.  Returns: the choice, and the number of exchanges taken.
    """
    choice, exchanges = start.copy(), 0
    bar = tqdm(total=measurements, desc="refine", unit="trial", disable=not progress)
    left, round_seed = measurements, 0
    while left > 0:
        round_seed += 1
        foretold = _scores_near(choice, space, model, calibration, 2 * batch_windows, seed + 7919 * round_seed)
        accepted = False
        for trial in islice(_exchanges(choice, foretold, constraints), min(left, 16)):
            is_better = measure.is_better(trial, choice)
            left -= 1
            bar.update()
            save()
            if is_better:
                choice, accepted = trial, True
                exchanges += 1
                bar.set_postfix(loss=f"{measure(choice):.5f}", exchanges=exchanges)
                break
        if not accepted:
            break
    bar.close()
    return choice, exchanges


def _scores_near(
    choice: Choice, space: DecisionSpace, model: RelaxedModel, calibration: Calibration, windows: int, seed: int
) -> npt.NDArray[np.float64]:
    """(decisions, pairs) predicted losses from the gradient a little inward of a choice."""
    inward = (1 - INWARD) * layer_degrees(space, choice) + INWARD * 0.5
    gradient, _ = degree_gradient(model, calibration, inward, calibration.sample(windows, seed, 0))
    return pair_scores(space, gradient)


def _exchanges(choice: Choice, scores: npt.NDArray[np.float64], constraints: Sequence[Constraint]) -> Iterator[Choice]:
    """Single changes, and changes of two decisions at once, that stay within the budgets: best foretold first, gains only."""
    decisions, pairs = scores.shape
    here = np.arange(decisions)
    gain = scores - scores[here, choice][:, None]
    extra = [one.costs - one.costs[here, choice][:, None] for one in constraints]
    room = [one.limit * (1 + 1e-12) - one.spent(choice) for one in constraints]
    moves = [(d, p) for d in range(decisions) for p in range(pairs) if p != choice[d]]
    d, p = np.array(moves).T
    g, e = gain[d, p], [cost[d, p] for cost in extra]
    fits_alone = np.all([cost <= space for cost, space in zip(e, room, strict=True)], axis=0)
    total = g[:, None] + g[None, :]
    fits = np.all([cost[:, None] + cost[None, :] <= space for cost, space in zip(e, room, strict=True)], axis=0)
    fits &= (d[:, None] < d[None, :]) & (total < 0)
    found: list[tuple[float, tuple[int, ...]]] = [(float(g[i]), (int(i),)) for i in np.flatnonzero(fits_alone & (g < 0))]
    first, second = np.nonzero(fits)
    order = np.argsort(total[first, second], kind="stable")[:256]
    found += [(float(total[i, j]), (int(i), int(j))) for i, j in zip(first[order], second[order], strict=True)]
    for _, changed in sorted(found):
        trial = choice.copy()
        for move in changed:
            trial[d[move]] = p[move]
        if all(one.is_met(trial) for one in constraints):
            yield trial
