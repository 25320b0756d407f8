"""The annealed search itself: offsets learn by gradient descent while the temperature turns the soft ladder into a hard one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from dmx.annealing import FIRST_THRESHOLD, Schedule, degrees, harden, slopes, thresholds
from dmx.budget import Constraint
from dmx.calibration import Calibration
from dmx.decisions import DecisionSpace, element_bits
from dmx.errors import DmxError
from dmx.knapsack import shadow_prices
from dmx.relax import RelaxedModel
from dmx.scores import decision_of_layer, decision_sums, degree_gradient, pair_scores
from dmx.search_config import SearchConfig
from dmx.secants import Secants
from dmx.steering import ExpectedCosts, Steering, place_probabilities

#: How much of their weight the gradients seen so far keep at each step.
MEMORY = 0.95
#: Offsets that start from scores lie at most this far from a threshold.
REACH = 0.4
SAVE_EVERY = 10


@dataclass(slots=True)
class TrainingState:
    """Everything that a step changes: what is saved, and resumed from."""

    offsets: torch.Tensor  #: (decisions, 2 or 1) float32
    moments: tuple[torch.Tensor, torch.Tensor]  #: the optimizer's, of offsets' shape
    prices: torch.Tensor
    secants: Secants  #: of the gradients seen
    step: int = 0
    history: dict[str, list[Any]] = field(
        default_factory=lambda: {k: [] for k in ("step", "loss", "bits", "cost", "temperature", "offsets")}
    )


class Training:
    """One annealing run over a relaxed model."""

    def __init__(
        self,
        space: DecisionSpace,
        constraints: Sequence[Constraint],
        model: RelaxedModel,
        calibration: Calibration,
        config: SearchConfig,
        path: Secants | None,
    ) -> None:
        """Args: path: the gradients along the path, of which start "scores" and the first prices are made; None without them."""
        self.space, self.constraints, self.model, self.calibration, self.config = space, constraints, model, calibration, config
        self.ladder_steps = len(space.formats) - 1
        self.schedule = Schedule(steps=config.steps, level=config.level, hold=config.hold, rise=config.rise)
        self.expected = ExpectedCosts(space, constraints)
        self._climbs = self.expected.climbs()
        along = None if path is None else path()
        scores = np.zeros((len(space.decisions), len(space.pairs))) if along is None else pair_scores(space, along)
        prices = shadow_prices(scores, constraints) if along is not None else np.zeros(len(constraints))
        floor = 1e-3 * float(np.abs(scores).sum(0).max()) if along is not None else 1e-3
        self.steering = Steering(config.steering, config.strength, constraints, prices, floor)
        self._members = decision_of_layer(space)
        self._element_bits = torch.tensor([element_bits(name) for name in space.formats], dtype=torch.float64)
        offsets = self._start(along)
        self.state = TrainingState(
            offsets=offsets,
            moments=(torch.zeros_like(offsets), torch.zeros_like(offsets)),
            prices=self.steering.prices,
            secants=Secants.empty(len(space.layers), self.ladder_steps) if path is None else Secants(path.sums),
        )
        if config.steering == "lagrangian":
            self._land(self.schedule.sharpness(0))

    def _start(self, path: torch.Tensor | None) -> torch.Tensor:
        """(decisions, operands) offsets."""
        operands = 2 if self.space.apart else 1
        shape = (len(self.space.decisions), operands)
        if self.config.start == "zero":
            return torch.zeros(shape)
        middle = torch.full(shape, FIRST_THRESHOLD + (self.ladder_steps - 1) / 2)
        if self.config.start == "middle" or path is None:
            return middle
        # Each step of the ladder weighs what it saves against what it costs at the budgets' prices; an offset sums their verdicts.
        saved = -decision_sums(self.space, path)
        saved = saved if operands == 2 else saved.sum(1, keepdim=True)
        halfway = torch.full((*shape, self.ladder_steps), 0.5).requires_grad_()
        (self.steering.prices * self.expected(halfway)).sum().backward()
        cost = halfway.grad if halfway.grad is not None else torch.ones_like(halfway)
        ratio = torch.log(saved.clamp_min(1e-12) / cost.clamp_min(1e-12)).clamp(-1, 1)
        return middle + REACH * ratio.sum(-1)

    def places(self) -> npt.NDArray[np.int64]:
        """(decisions, 2): where on the ladder each decision's weights and inputs would end now."""
        taken = harden(self._positive(), self.ladder_steps)
        return np.asarray(taken.expand(-1, 2).numpy(), np.int64)

    def choice(self) -> npt.NDArray[np.int64]:
        """(decisions,) pair indices of the hardened offsets, higher where that costs nothing."""
        return self.expected.lifted(np.array([self.space.pair_at(int(w), int(a)) for w, a in self.places()], np.int64))

    def soft_degrees(self) -> torch.Tensor:
        """(linears, 2, formats - 1): the degrees that the last step's temperature makes of the offsets."""
        sharpness = self.schedule.sharpness(max(self.config.steps - 1, 0))
        return degrees(self._positive(), self.ladder_steps, sharpness).expand(-1, 2, -1)[self._members]

    def margins(self) -> torch.Tensor:
        """(linears, 2, formats - 1): how far each offset lies below each threshold: what a rounding of the offsets goes by."""
        below = (thresholds(self.ladder_steps) - self._positive()[..., None]).expand(-1, 2, -1)
        share = torch.tensor([len(decision.layers) for decision in self.space.decisions], dtype=below.dtype)[:, None, None]
        return (below / share)[self._members]

    def _positive(self) -> torch.Tensor:
        return self.state.offsets.abs() if self.config.start == "zero" else self.state.offsets

    def run(self, save: Callable[[TrainingState], None], progress: bool) -> None:
        """Take the steps that are left. Args: save: called now and then, and at the end."""
        state, config = self.state, self.config
        self.steering.prices = state.prices
        bar = tqdm(
            range(state.step, config.steps),
            desc="search",
            unit="step",
            disable=not progress,
            initial=state.step,
            total=config.steps,
            leave=None,  # inside another bar it goes when it is done
        )
        for step in bar:
            shares = self.step(step)
            state.step = step + 1
            bar.set_postfix(self._live(shares))
            if state.step % SAVE_EVERY == 0 or state.step == config.steps:
                save(state)

    def _live(self, shares: torch.Tensor) -> dict[str, str]:
        """What the bar shows. Bits are counted as the first budget in bits counts them; cost is the share of the budget spent the most."""
        last = {name: values[-1] for name, values in self.state.history.items() if name != "offsets"}
        bits = next(
            (share * one.limit for share, one in zip(shares.tolist(), self.constraints, strict=True) if one.budget.kind == "bits"),
            last["bits"],
        )
        cost, temperature = f"{100 * last['cost']:.1f}% of budget", f"{last['temperature']:.2f}"
        return {"loss": f"{last['loss']:.4f}", "bits": f"{bits:.2f}", "cost": cost, "temperature": temperature}

    def step(self, step: int) -> torch.Tensor:
        """Take one step of the descent: gradients on a batch of windows, the offsets after them, and what the history keeps.

        Returns: (constraints,) the expected costs before it, as shares of the budgets.
        """
        state, config = self.state, self.config
        sharpness = self.schedule.sharpness(step)
        taken = degrees(self._positive(), self.ladder_steps, sharpness)
        per_layer = taken.expand(-1, 2, -1)[self._members]
        index = self.calibration.sample(config.batch_windows, config.seed, step)
        gradient, loss = degree_gradient(self.model, self.calibration, per_layer, index)
        state.secants.add(per_layer, gradient, weight=len(index), kept=MEMORY)
        taken.requires_grad_()
        spent = self.expected(taken)
        self.steering.pressure(spent).backward()
        of_loss = decision_sums(self.space, gradient)
        of_loss = of_loss if self.space.apart else of_loss.sum(1, keepdim=True)
        of_cost = taken.grad if taken.grad is not None else torch.zeros_like(taken)
        pull = ((of_loss + of_cost) * slopes(taken.detach(), sharpness)).sum(-1)
        if config.start == "zero":
            pull = pull * torch.where(state.offsets < 0, -1.0, 1.0)
        self._descend(pull, step)
        if config.steering == "lagrangian":
            self.steering.follow(shadow_prices(pair_scores(self.space, state.secants()), self.constraints))
            state.prices = self.steering.prices
            self._land(self.schedule.sharpness(min(step + 1, config.steps - 1)))
        places = place_probabilities(taken.detach().double())
        state.history["step"].append(step)
        state.history["loss"].append(loss)
        state.history["bits"].append(float((places @ self._element_bits).expand(-1, 2).mean(-1)[self._members].mean()))
        state.history["cost"].append(float(spent.detach().max()))
        state.history["temperature"].append(self.schedule.temperature(step))
        state.history["offsets"].append([[round(v, 4) for v in row] for row in self._positive().tolist()])
        return spent.detach()

    def _land(self, sharpness: float) -> None:
        """Lower or raise offsets together, each by what its climb costs, until the expected cost is the budget."""
        offsets, climbs = self.state.offsets, self._climbs
        shift = self.steering.shift(
            self.expected, lambda by: degrees(offsets - by.float()[:, None, None] * climbs, self.ladder_steps, sharpness)
        )
        self.state.offsets = offsets - shift * climbs

    def _descend(self, pull: torch.Tensor, step: int) -> None:
        state, config = self.state, self.config
        if config.gradient_clip:
            pull = pull * min(1.0, config.gradient_clip / (float(pull.norm()) + 1e-12))
        first, second = state.moments
        if config.optimizer == "sgd":
            first = config.momentum * first + pull
            move = config.learning_rate * (pull + config.momentum * first)
        else:
            decay = 0.95
            first = config.momentum * first + (1 - config.momentum) * pull
            second = decay * second + (1 - decay) * pull.square()
            unbiased = first / (1 - config.momentum ** (step + 1))
            move = config.learning_rate * unbiased / ((second / (1 - decay ** (step + 1))).sqrt() + 1e-12)
        state.moments = (first, second)
        state.offsets = state.offsets - move
        if not math.isfinite(float(state.offsets.sum())):
            lost = torch.isnan(state.offsets).any(-1).nonzero().flatten().tolist()
            if lost:
                names = [self.space.decisions[d].name for d in lost]
                raise DmxError(
                    f"step {step} moves {len(lost)} offsets by no number, the last of them {names[-1]!r}: the offsets' gradient, "
                    f"{float(pull.norm()):.3g} in size, is beyond float32's range; lower strength or learning_rate"
                )
            state.offsets = torch.nan_to_num(state.offsets)  # beyond float32's range: as hard as can be
