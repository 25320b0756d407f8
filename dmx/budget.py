"""Budgets: average bits, bytes, energy or latency, and how far a choice of formats is from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context
from typing import Any

import numpy as np
import numpy.typing as npt

from dmx.decisions import DecisionSpace, element_bits, scaled_bits
from dmx.errors import DmxError
from mxsim.assignment import Assignment
from mxsim.cost_table import build_cost_table
from mxsim.costing import price_workload
from mxsim.devices.reader import figures_sha256, load_device
from mxsim.errors import unknown_name
from mxsim.shapes import ModelShape
from mxsim.storage_formats import FormatPair
from mxsim.workload import Phase, build_workload

#: kind -> the metric of mxsim's cost table; bits is counted from the formats alone
METRICS = {"bits": None, "bytes": "weight_bytes", "dram": "dram_bytes", "energy": "energy_pj", "latency": "latency_s"}
#: Stored bytes are the same on every device; a table needs one all the same.
ANY_DEVICE = "b200"
WIDE_BITS = 16
#: A budget is met where what is spent exceeds it by no more than sums are rounded, as a share.
ROUNDING = 1e-12
_UP = Context(prec=7, rounding=ROUND_CEILING)


#: What a scenario is where nothing is said of it: one step of decoding.
USUAL_STEP = Phase()
USUAL_PHASES = ((USUAL_STEP, 1.0),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Where and how a model runs: what bytes moved, energy and latency depend on."""

    device: str | None = None  #: a device's name or its TOML file
    phases: tuple[tuple[Phase, float], ...] = USUAL_PHASES  #: forward steps with how many of each
    assume: tuple[str, ...] = ()  #: assumptions of the device that are accepted
    kv_format: str = "bf16"
    shortens: bool | None = None  #: contexts were not asked for: the model's longest will do; None: those of the usual step

    @classmethod
    def parse(cls, words: Iterable[str], *, device: str | None, assume: Iterable[str] = (), kv_format: str = "bf16") -> Scenario:
        """From words such as "prefill:1:512" and "decode:1:1024*128" (phase:batch:context, times how many)."""
        phases = []
        for word in words:
            text, _, times = word.partition("*")
            parts = text.split(":")
            try:
                kind, batch, context = parts
                phases.append((Phase(kind=kind, batch=int(batch), context=int(context)), float(times or 1)))
                if not 0 < phases[-1][1] < math.inf:
                    raise ValueError(f"{times} times")
            except ValueError as error:
                raise DmxError(f"scenario step {word!r} is not PHASE:BATCH:CONTEXT[*TIMES], such as decode:1:1024*128: {error}") from error
        usual = cls(device=device, assume=tuple(assume), kv_format=kv_format)
        return replace(usual, phases=tuple(phases), shortens=False) if phases else usual

    @classmethod
    def of_step(
        cls, kind: str, batch: int, context: int | None, *, device: str | None, assume: Iterable[str] = (), kv_format: str = "bf16"
    ) -> Scenario:
        """One forward step. Args: context: None is the usual one, or the model's longest where that is less."""
        step = Phase(kind=kind, batch=batch) if context is None else Phase(kind=kind, batch=batch, context=context)
        return cls(device=device, phases=((step, 1.0),), assume=tuple(assume), kv_format=kv_format, shortens=context is None)

    def fitted(self, shape: ModelShape | None) -> Scenario:
        """The same on a model: contexts that were not asked for are no longer than it allows; those that were are left as they are."""
        if shape is None or self.shortens is False:
            return self
        phases = tuple((self._shortened(phase, shape.max_context), times) for phase, times in self.phases)
        return replace(self, phases=phases, shortens=False)

    def _shortened(self, phase: Phase, longest: int) -> Phase:
        was_not_asked_for = self.shortens or phase == USUAL_STEP
        return replace(phase, context=min(phase.context, longest)) if was_not_asked_for else phase

    @property
    def device_sha256(self) -> str | None:
        """Of the device's figures, which neither a name nor a file's place tells."""
        return None if self.device is None else figures_sha256(self.device)

    def to_json(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "phases": [{"phase": p.kind, "batch": p.batch, "context": p.context, "times": times} for p, times in self.phases],
            "assume": list(self.assume),
            "kv_format": self.kv_format,
            **({"shortens": True} if self.shortens and self.phases != USUAL_PHASES else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent."""

    kind: str  #: one of METRICS
    amount: float  #: bits, bytes, picojoules or seconds; with is_share, the share of the all-BF16 model's
    is_share: bool = False
    scenario: Scenario = field(default_factory=Scenario)
    bits_scales: str = "out"  #: whether bits count the scales: "in" or "out"
    bits_weighting: str = "plain"  #: mean over linears, "plain", or weighted by their weights' "size"

    def __post_init__(self) -> None:
        if self.kind not in METRICS:
            raise unknown_name("budget", self.kind, METRICS)
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise DmxError(f"budget {self.kind}={self.amount} must be a finite number above 0")
        if self.bits_scales not in ("in", "out") or self.bits_weighting not in ("plain", "size"):
            raise DmxError(f"bits are counted with scales in or out, weighted plain or size; got {self.bits_scales}, {self.bits_weighting}")
        if self.kind in ("dram", "energy", "latency") and self.scenario.device is None:
            raise DmxError(f"a budget in {self.kind} needs a device: pass --device, such as b200 (mxsim hardware lists them)")

    @classmethod
    def parse(cls, text: str, scenario: Scenario | None = None, *, bits_scales: str = "out", bits_weighting: str = "plain") -> Budget:
        """From "bits=5.0", "bytes=2.5e6", "energy=0.6x" (a share of the all-BF16 model), "latency=1e-3" (seconds), "energy=3e9" (pJ)."""
        kind, _, value = text.partition("=")
        share = value.endswith("x")
        try:
            amount = float((value[:-1] if share else value).replace("_", "?"))  # which Python takes for no more than a separator
        except ValueError:
            raise DmxError(f"budget {text!r} is not KIND=AMOUNT, such as bits=5.0 or energy=0.6x; kinds are {', '.join(METRICS)}") from None
        return cls(
            kind=kind.strip(),
            amount=amount,
            is_share=share,
            scenario=scenario or Scenario(),
            bits_scales=bits_scales,
            bits_weighting=bits_weighting,
        )

    def fitted(self, shape: ModelShape | None) -> Budget:
        """The same with its scenario on a model."""
        return replace(self, scenario=self.scenario.fitted(shape))

    @property
    def text(self) -> str:
        return f"{self.kind}={self.amount:.15g}{'x' if self.is_share else ''}"

    def to_json(self) -> dict[str, Any]:
        reading = {"bits_scales": self.bits_scales, "bits_weighting": self.bits_weighting} if self.kind == "bits" else {}
        return {
            "kind": self.kind,
            "text": self.text,
            "amount": self.amount,
            "is_share": self.is_share,
            **reading,
            **self.scenario.to_json(),
        }


def budget_names(budgets: Sequence[Budget]) -> list[str]:
    """What each of several is called: its text; where others have the same, with how its bits are counted or where it is spent.

    And numbered, where even that is the same.
    """
    texts = [one.text for one in budgets]
    names = [one.text if texts.count(one.text) == 1 else f"{one.text} ({_reading(one)})" for one in budgets]
    return [name if names.count(name) == 1 else f"{name}, {names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _reading(budget: Budget) -> str:
    if budget.kind == "bits":
        return f"scales {budget.bits_scales}, weighted {budget.bits_weighting}"
    where = budget.scenario
    place = [f"on {where.device}"] if where.device else []
    steps = [f"{times:g} x {phase}" for phase, times in where.phases]
    return ", ".join([*place, *steps, f"KV cache {where.kv_format}", *where.assume])


def described(budgets: Sequence[Budget]) -> dict[str, Any]:
    """One or several budgets as an assignment keeps them: {"text", "all_of"} of several, each with its name."""
    if len(budgets) == 1:
        return budgets[0].to_json()
    names = budget_names(budgets)
    all_of = [{"name": name, **one.to_json()} for name, one in zip(names, budgets, strict=True)]
    return {"text": " and ".join(names), "all_of": all_of}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constraint:
    """A budget on a decision space: fixed + sum over decisions of costs[d, choice[d]] <= limit."""

    budget: Budget
    costs: npt.NDArray[np.float64]  #: (decisions, pairs)
    fixed: float  #: what no decision touches
    limit: float
    wide: float  #: the all-BF16 model's

    @property
    def cheapest(self) -> float:
        return self.fixed + math.fsum(self.costs.min(1))

    @property
    def dearest(self) -> float:
        return self.fixed + math.fsum(self.costs.max(1))

    def spent(self, choice: npt.NDArray[np.int64]) -> float:
        """What a choice costs."""
        return math.fsum((self.fixed, *self.costs[np.arange(len(choice)), choice]))

    def spent_as_asked(self, choice: npt.NDArray[np.int64]) -> float:
        """The same as the budget counts it: a share of the all-BF16 model's where its amount is one."""
        return self.spent(choice) / (self.wide if self.budget.is_share else 1.0)

    def is_met(self, choice: npt.NDArray[np.int64]) -> bool:
        return self.spent(choice) <= self.limit * (1 + ROUNDING)

    def asked(self, spent: float) -> str:
        """A budget of this kind as it is asked for, that allows so much: rounded up."""
        unit, mark = (self.wide, "x") if self.budget.is_share else (1.0, "")
        return f"{self.budget.kind}={_rounded_up(spent / unit):.7g}{mark}"

    def left(self, choice: npt.NDArray[np.int64]) -> float:
        """What a choice leaves of the budget, as a share of it."""
        return 1 - self.spent(choice) / self.limit


def constraints(budgets: Sequence[Budget], space: DecisionSpace, shape: ModelShape | None) -> tuple[Constraint, ...]:
    """The budgets as linear constraints, each of which can be met; whether all can at once, dmx.knapsack.check_together says.

    Raises: DmxError for a budget that no choice meets, with what can be reached; MxsimError for a cost that is not known.
    """
    if not budgets:
        raise DmxError("no budget is given: pass one, such as bits=5.0")
    found = tuple(constraint(budget, space, shape) for budget in budgets)
    for one in found:
        if one.cheapest > one.limit * (1 + ROUNDING):
            share = f" ({_between(one, one.wide, 'x')} of all-BF16)" if one.budget.kind != "bits" else ""
            raise DmxError(
                f"budget {one.budget.text} cannot be met with {', '.join(space.formats)}: it allows {one.limit:.7g}, "
                f"and the reachable range is {_between(one)}{share}"
            )
    return found


def _between(one: Constraint, unit: float = 1.0, mark: str = "") -> str:
    """What can be reached, in digits that can be asked for: the least rounded up, and the most no less than that."""
    least = _rounded_up(one.cheapest / unit)
    return f"{least:.7g}{mark} to {max(least, one.dearest / unit):.7g}{mark}"


def _rounded_up(amount: float) -> float:
    """To seven digits; down where that is met to the last rounding."""
    nearest = float(f"{amount:.7g}")
    return nearest if amount <= nearest * (1 + ROUNDING) else float(_UP.create_decimal(amount))


def constraint(budget: Budget, space: DecisionSpace, shape: ModelShape | None) -> Constraint:
    """One budget as a linear constraint, whether it can be met or not."""
    metric = METRICS[budget.kind]
    if metric is None:
        costs, fixed, wide = _bits_table(budget, space), 0.0, float(WIDE_BITS)
    else:
        if shape is None:
            raise DmxError(
                f"a budget in {budget.kind} needs a model whose shape mxsim describes, its linears named and sized as its config says; "
                "only bits can be counted for this one"
            )
        scenario = budget.scenario.fitted(shape)
        phases = scenario.phases
        table = build_cost_table(
            shape,
            scenario.device or ANY_DEVICE,
            space.pairs,
            [phase for phase, _ in phases],
            tie=space.tied,
            kv_format=scenario.kv_format,
            assume=scenario.assume,
            searched=space.layers,
        )
        weights = {phases[0][0]: 1.0} if metric == "weight_bytes" else {}
        for phase, times in phases if metric != "weight_bytes" else ():
            weights[phase] = weights.get(phase, 0.0) + times  # a step that is named twice adds up
        rows, fixed = table.scenario(metric, weights)
        place_of = {layer: place for place, decision in enumerate(space.decisions) for layer in decision.layers}
        costs = np.zeros((len(space.decisions), len(space.pairs)))
        for members, row in zip(table.groups.values(), rows, strict=True):  # several to a decision where linears share a weight
            costs[place_of[members[0]]] += row
        wide = math.fsum(weight * table.wide_cost(metric, phase) for phase, weight in weights.items())
    limit = budget.amount * wide if budget.is_share else budget.amount
    return Constraint(budget=budget.fitted(shape), costs=costs, fixed=fixed, limit=limit, wide=wide)


def _bits_table(budget: Budget, space: DecisionSpace) -> npt.NDArray[np.float64]:
    bits_of = scaled_bits if budget.bits_scales == "in" else element_bits
    pair_bits = np.array([(bits_of(pair.weight) + bits_of(pair.activation)) / 2 for pair in space.pairs])
    is_plain = budget.bits_weighting == "plain"
    sizes = np.array([len(d.layers) if is_plain else sum(d.weights) for d in space.decisions], np.float64)
    return np.asarray(sizes[:, None] * pair_bits[None, :] / sizes.sum(), np.float64)


def mean_bits(layers: Iterable[FormatPair], bits_of: Any = element_bits) -> float:
    """The plain mean over linears of (weight bits + input bits) / 2."""
    pairs = list(layers)
    return math.fsum((bits_of(pair.weight) + bits_of(pair.activation)) / 2 for pair in pairs) / len(pairs)


def achieved(assignment: Assignment, shape: ModelShape | None, scenario: Scenario) -> dict[str, float | None]:
    """What an assignment costs: {"bits", "bits_with_scales", "bytes", "energy_pj", "latency_s"}, None where it is not known.

    Energy and latency are sums over the scenario's phases, without any software overhead.
    """
    pairs = assignment.layers.values()
    spent: dict[str, float | None] = {
        "bits": mean_bits(pairs),
        "bits_with_scales": mean_bits(pairs, scaled_bits),
        "bytes": None,
        "energy_pj": None,
        "latency_s": None,
    }
    if shape is None:
        return spent
    device = load_device(scenario.device or ANY_DEVICE, assume=list(scenario.assume))
    reports = []
    for phase, weight in scenario.fitted(shape).phases:
        workload = build_workload(shape, phase)
        reports.append((price_workload(workload, device, assignment.layers, kv_format=scenario.kv_format), weight))
    spent["bytes"] = reports[0][0].sum("weight_bytes")
    if scenario.device is not None:
        for metric in ("energy_pj", "latency_s"):
            values = [(report.sum(metric), weight) for report, weight in reports]
            if all(value is not None for value, _ in values):
                spent[metric] = math.fsum((value or 0.0) * weight for value, weight in values)
    return spent


def told_scenario(budgets: Sequence[Budget], scenario: Scenario | None = None) -> Scenario:
    """The scenario to report costs in: the first budget's that has a device; where none has, the given one, or else the first's."""
    own = (budget.scenario for budget in budgets if budget.scenario.device is not None)
    return next(own, scenario or budgets[0].scenario)


def check_scenario(scenario: Scenario, space: DecisionSpace, shape: ModelShape | None) -> None:
    """Raises: DmxError or MxsimError for a scenario whose costs could not be told at the end: before anything is measured."""
    achieved(Assignment(layers=space.layer_pairs(np.zeros(len(space.decisions), np.int64))), shape, scenario)
