"""The end of a search: exchanges between decisions, within the budgets, that are kept where they measure better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from dmx.budget import ROUNDING, Constraint
from dmx.calibration import Calibration, Column
from dmx.decisions import DecisionSpace
from dmx.kept_blocks import KeptBlocks
from dmx.relax import RelaxedModel
from dmx.scores import degree_gradient, inward, layer_degrees, pair_scores
from dmx.secants import Secants

Choice = npt.NDArray[np.int64]
#: How much of their weight the gradients seen before keep at each new look.
KEPT = 0.9
#: Moves tried between two looks at most.
TRIALS = 16
#: Looks in a row whose moves all came to nothing, after which none is expected: of 15 exchanges that 19 searches took, 12 came within 16
#: moves of the one before and none beyond 24, where up to 197 were tried.
FRUITLESS = 2
#: Windows of a forward pass that measures.
MEASURED_AT_ONCE = 16


class Measure:
    """The loss of choices, and their KL, on the calibration text: window by window in a shuffled order, no further than needed, once each.

    A choice that races another is computed from the first block of layers in which they differ.
    """

    def __init__(
        self, space: DecisionSpace, model: RelaxedModel, calibration: Calibration, known: dict[str, list[Sequence[float]]] | None = None
    ) -> None:
        """Args: known: what was measured before, a loss and a KL a window; it grows."""
        self.space, self.model, self.calibration = space, model, calibration
        self.known = known if known is not None else {}
        windows = len(calibration.windows)
        self.batches = torch.split(torch.randperm(windows, generator=torch.Generator().manual_seed(0)), MEASURED_AT_ONCE)
        self._blocks = KeptBlocks(calibration.model.module, space.layers, len(self.batches))

    def __call__(self, choice: Choice) -> float:
        """The mean loss per token of a choice."""
        return math.fsum(self._column(choice, len(self.batches), Column.LOSS)) / len(self.calibration.windows)

    def is_better(self, choice: Choice, than: Choice, errors: float = 1.0) -> bool:
        """Whether the loss is lower by more than so many standard errors over the windows: what less would be, other text may undo.

        Or whether KL is, whose differences recur, and the loss not higher.
        """
        return self.race(choice, than, errors)[0]

    def race(self, choice: Choice, than: Choice, errors: float = 1.0) -> tuple[bool, float]:
        """is_better, given up as soon as the windows measured so far say that the loss is higher by more than one standard error.

        Returns: that, and how much of the text was seen, 0 to 1.
        """
        gain, error, seen = self._gain(choice, than, Column.LOSS)
        if gain > errors * error or seen < 1.0:
            return gain > errors * error, seen
        kl, kl_error, _ = self._gain(choice, than, Column.KL)
        return gain >= 0.0 and kl > errors * kl_error, seen

    def has_less_kl(self, choice: Choice, than: Choice) -> bool:
        """Whether the KL is lower at all; given up like a race."""
        return self._gain(choice, than, Column.KL)[0] > 0.0

    def _gain(self, choice: Choice, than: Choice, by: Column) -> tuple[float, float, float]:
        """How much lower one is than another, its standard error, and how much of the text was seen: not all where it is plainly higher."""
        self._blocks.refer_to(layer_degrees(self.space, than))
        for batches in range(1, len(self.batches) + 1):
            trial, other = self._column(choice, batches, by), self._column(than, batches, by)
            gains = [old - new for old, new in zip(other, trial, strict=True)]
            gain, error = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
            if gain <= -error:
                break
        return gain, error, len(gains) / len(self.calibration.windows)

    def _column(self, choice: Choice, batches: int, by: Column) -> list[float]:
        """The losses, or the KLs, on the first batches of windows."""
        known = self.known.setdefault(".".join(str(int(i)) for i in choice), [])
        wanted = sum(len(index) for index in self.batches[:batches])
        if len(known) < wanted:
            missing = [i for i in range(batches) if sum(map(len, self.batches[:i])) >= len(known)]
            known += self._measured(layer_degrees(self.space, choice), missing)
        return [window[by] for window in known[:wanted]]

    def losses(self, degrees: torch.Tensor) -> list[float]:
        """Each window's mean loss per token at any degrees. Raises: DmxError for one that is not finite."""
        return [window[Column.LOSS] for window in self._measured(degrees, range(len(self.batches)))]

    def _measured(self, degrees: torch.Tensor, batches: Sequence[int]) -> list[Sequence[float]]:
        def measured(index: torch.Tensor) -> list[Sequence[float]]:
            told: list[Sequence[float]] = self.calibration.measured(index).tolist()
            self.calibration.need_finite(sum(window[Column.LOSS] for window in told), index)
            return told

        found: list[Sequence[float]] = []
        with torch.no_grad():
            self.model.degrees = degrees
            for i in batches:
                found += self._blocks.run(degrees, i, partial(measured, self.batches[i]))
        self.model.forget()
        return found


def refine(
    start: Choice,
    space: DecisionSpace,
    constraints: Sequence[Constraint],
    model: RelaxedModel,
    calibration: Calibration,
    measure: Measure,
    secants: Secants,
    *,
    measurements: int,
    batch_windows: int,
    seed: int,
    save: Callable[[], None],
    progress: bool,
) -> tuple[Choice, int]:
    """Exchange formats between decisions while they measure better.

    Gradients near the choice, added to those of the search, foretell what each move is worth; the most promising moves that stay within the
    budgets are measured, and the first that is better by enough standard errors is taken. Where none is, it looks again, FRUITLESS times in
    a row at most. Enough is one for KL, whose differences recur, to two for next-token loss: of tens of choices some are righter about
    these very tokens by chance.
    Args: secants: the search's, left as they are.  measurements: of the whole text, at most; what is given up early counts in part.
    Returns: the choice, and the number of exchanges taken.
    """
    choice, exchanges = start.copy(), 0
    bar = tqdm(
        total=measurements,
        desc="refine",
        unit="text",
        disable=not progress,
        leave=None,
        bar_format="{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
    )
    left, rounds, fruitless, seen = float(measurements), 0, 0, Secants(secants.sums)
    errors = 1.0 + calibration.share
    tried: set[bytes] = set()
    while left > 0 and fruitless < FRUITLESS:
        rounds += 1
        fruitless += 1
        _look_near(seen, choice, space, model, calibration, 2 * batch_windows, seed + 7919 * rounds)
        promising = (trial for trial in _exchanges(choice, pair_scores(space, seen()), constraints) if trial.tobytes() not in tried)
        trials = list(islice(promising, TRIALS))
        if not trials:
            break
        for trial in trials:
            is_better, looked_at = measure.race(trial, choice, errors)
            tried.add(trial.tobytes())
            left -= looked_at
            bar.update(min(looked_at, bar.total - bar.n))
            save()
            if is_better:
                choice, tried = trial, set()
                exchanges, fruitless = exchanges + 1, 0
                bar.set_postfix(loss=f"{measure(choice):.5f}", exchanges=exchanges)
            if is_better or left <= 0:
                break
    bar.close()
    return choice, exchanges


def _look_near(
    seen: Secants, choice: Choice, space: DecisionSpace, model: RelaxedModel, calibration: Calibration, windows: int, seed: int
) -> None:
    """Add the gradient a little inward of a choice."""
    degrees = inward(layer_degrees(space, choice))
    index = calibration.sample(windows, seed, 0)
    gradient, _ = degree_gradient(model, calibration, degrees, index)
    seen.add(degrees, gradient, weight=len(index), kept=KEPT)


def _exchanges(choice: Choice, scores: npt.NDArray[np.float64], constraints: Sequence[Constraint]) -> Iterator[Choice]:
    """Single changes, and changes of two decisions at once, that stay within the budgets: best foretold first, gains only."""
    decisions, pairs = scores.shape
    here = np.arange(decisions)
    gain = scores - scores[here, choice][:, None]
    extra = [one.costs - one.costs[here, choice][:, None] for one in constraints]
    room = [one.limit * (1 + ROUNDING) - one.spent(choice) for one in constraints]
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
