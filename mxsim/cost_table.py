"""The cost of every choice: C[group, format pair, metric, phase], linear in one-hot choices.

With probabilities p over the pairs of each group, a relaxed cost is fixed + sum over groups and pairs of p C. At a vertex, where
each p is 0 or 1, it is the discrete cost to the last bit: both are correctly rounded sums of the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxsim.devices.reader import load_device
from mxsim.devices.spec import Device
from mxsim.errors import MxsimError, unknown_name
from mxsim.model_config import resolve_shape
from mxsim.pricing import METRICS, Pricer
from mxsim.shapes import ModelShape
from mxsim.storage_formats import WIDE_PAIR, FormatPair
from mxsim.workload import Operation, Phase, build_workload

#: costs of one metric in one phase: a row a group, an entry a pair; None where the device lacks a figure
Rows = tuple[tuple[float | None, ...], ...]

#: costs of one group: for each of METRICS, an entry a pair
Row = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Costs of a model's decisions on a device. Bytes, picojoules and seconds, as the metric's name says."""

    groups: Mapping[str, tuple[str, ...]]  #: decision -> the linears it binds
    pairs: tuple[FormatPair, ...]
    phases: tuple[Phase, ...]
    device: Device
    costs: Mapping[tuple[str, Phase], Rows]
    fixed: Mapping[tuple[str, Phase], tuple[float | None, ...]]  #: what no decision touches: attention, lm_head, embeddings
    wide: Mapping[tuple[str, Phase], tuple[float | None, ...]]  #: each group's cost in bf16
    missing: tuple[str, ...] = ()  #: the device figures for want of which costs are None

    def rows(self, metric: str, phase: Phase) -> tuple[tuple[float, ...], ...]:
        """(groups, pairs) costs. Raises: MxsimError where one of them is not known."""
        return tuple(tuple(self._need(row, metric)) for row in self._look_up(self.costs, metric, phase))

    def fixed_cost(self, metric: str, phase: Phase) -> float:
        return math.fsum(self._fixed(metric, phase))

    def wide_cost(self, metric: str, phase: Phase) -> float:
        """The whole model in bf16: what relative budgets are shares of."""
        wide = self._need(self._look_up(self.wide, metric, phase), metric)
        return math.fsum((*wide, *self._fixed(metric, phase)))

    def total(self, choice: Mapping[str, FormatPair], metric: str, phase: Phase) -> float:
        """The cost when each group takes its chosen pair: mxsim.cost's sum, to the last bit where decisions are whole groups."""
        columns = {pair: i for i, pair in enumerate(self.pairs)}
        rows = self.rows(metric, phase)
        picked = []
        for group, row in zip(self.groups, rows, strict=True):
            if group not in choice:
                raise MxsimError(f"no pair is chosen for group {group!r}")
            if choice[group] not in columns:
                raise unknown_name("pair of this table", str(choice[group]), [str(pair) for pair in self.pairs])
            picked.append(row[columns[choice[group]]])
        return math.fsum((*picked, *self._fixed(metric, phase)))

    def relaxed(self, probabilities: Sequence[Sequence[float]], metric: str, phase: Phase) -> float:
        """The expected cost. Args: probabilities: (groups, pairs), each row's over the pairs."""
        rows = self.rows(metric, phase)
        if len(probabilities) != len(rows) or any(len(p) != len(self.pairs) for p in probabilities):
            raise MxsimError(f"probabilities must be {len(rows)} groups x {len(self.pairs)} pairs")
        terms = (p * c for ps, row in zip(probabilities, rows, strict=True) for p, c in zip(ps, row, strict=True))
        return math.fsum((*terms, *self._fixed(metric, phase)))

    def scenario(self, metric: str, weights: Mapping[Phase, float]) -> tuple[list[list[float]], float]:
        """A weighted sum of phases: (groups, pairs) costs and the fixed cost."""
        if not weights:
            raise MxsimError("a scenario needs at least one phase with its weight")
        total = [[0.0] * len(self.pairs) for _ in self.groups]
        fixed = 0.0
        for phase, weight in weights.items():
            for sums, row in zip(total, self.rows(metric, phase), strict=True):
                for i, value in enumerate(row):
                    sums[i] += weight * value
            fixed += weight * self.fixed_cost(metric, phase)
        return total, fixed

    def _fixed(self, metric: str, phase: Phase) -> list[float]:
        return self._need(self._look_up(self.fixed, metric, phase), metric)

    def _look_up(self, table: Mapping[tuple[str, Phase], Any], metric: str, phase: Phase) -> Any:
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if phase not in self.phases:
            raise MxsimError(f"{phase} is not in this table: it has {', '.join(map(str, self.phases))}")
        return table[metric, phase]

    def _need(self, values: Sequence[float | None], metric: str) -> list[float]:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            offered = ", ".join(assumption.name for assumption in self.device.assumptions)
            remedy = f"accept an assumption by name ({offered})" if offered else "add the figures to a device file of your own"
            raise MxsimError(
                f"{metric} is not known on {self.device.name}: it lacks {', '.join(self.missing)}; {remedy}, or take another metric"
            )
        return known


def build_cost_table(
    model: str | Path | Mapping[str, Any] | ModelShape,
    hardware: str | Path | Device,
    pairs: Iterable[FormatPair | str],
    phases: Iterable[Phase] = (Phase(),),
    *,
    tie: bool = True,
    kv_format: str = "bf16",
    assume: Iterable[str] = (),
    searched: Iterable[str] | None = None,
    merge: bool = False,
) -> CostTable:
    """Price every pair of every decision in every phase.

    Args: tie: q, k and v share a decision, so do gate and up; the experts of a layer always do. False: each linear has its own.
        searched: the linears to decide on, all of them when None; the others stay bf16.
        merge: as in mxsim.cost; it needs decisions that hold whole groups, for a launch is shared only where formats agree.
    Raises: MxsimError for names that are not known, nothing to choose from, or merge with decisions that split a group.
    """
    shape, device = resolve_shape(model), load_device(hardware, assume=[assume] if isinstance(assume, str) else list(assume))
    choices = tuple(FormatPair.parse(pair) if isinstance(pair, str) else pair for pair in pairs)
    scenario = tuple(phases)
    if not choices or not scenario:
        raise MxsimError("a cost table needs at least one format pair and one phase")
    if merge and not tie:
        raise MxsimError(
            "merge needs tied decisions, for untied linears of one launch could differ in format: pass tie=True, or merge=False"
        )
    wanted = None if searched is None else set(searched)
    pricer = Pricer(device, kv_format)
    groups: dict[str, tuple[str, ...]] = {}
    costs: dict[tuple[str, Phase], Rows] = {}
    fixed: dict[tuple[str, Phase], tuple[float | None, ...]] = {}
    wide: dict[tuple[str, Phase], tuple[float | None, ...]] = {}
    for phase in scenario:
        known: dict[tuple[object, ...], Row] = {}
        workload = build_workload(shape, phase, merge=merge)
        unknown = (wanted or set()).difference(workload.linears)
        if unknown:
            raise unknown_name(f"layer of {shape.name}", min(unknown), workload.linears)
        decided, rest = _gather(workload.operations, tie, wanted)
        shared = decided.keys() & rest.keys() if merge else set()
        if shared:
            raise MxsimError(
                f"merge needs whole groups, and only a part of {min(shared)} is searched: search all of it, or pass merge=False"
            )
        groups = {name: tuple(operation.name for operation in members) for name, members in decided.items()}
        rows = [_row(pricer, members, choices, known) for members in decided.values()]
        bf16 = [_row(pricer, members, (WIDE_PAIR,), known) for members in decided.values()]
        others = [_row(pricer, members, (WIDE_PAIR,), known) for members in rest.values()]
        for i, metric in enumerate(METRICS):
            costs[metric, phase] = tuple(row[i] for row in rows)
            fixed[metric, phase] = tuple(row[i][0] for row in others)
            wide[metric, phase] = tuple(row[i][0] for row in bf16)
    return CostTable(
        groups=groups,
        pairs=choices,
        phases=scenario,
        device=device,
        costs=costs,
        fixed=fixed,
        wide=wide,
        missing=pricer.missing,
    )


def _gather(
    operations: Iterable[Operation], tie: bool, wanted: set[str] | None
) -> tuple[dict[str, list[Operation]], dict[str, list[Operation]]]:
    """The operations of each decision, and those that none touches, both by group."""
    decided: dict[str, list[Operation]] = {}
    rest: dict[str, list[Operation]] = {}
    for operation in operations:
        searched = operation.matmul.kind == "linear" and (wanted is None or operation.name in wanted)
        group = operation.group if tie else operation.name
        (decided if searched else rest).setdefault(group, []).append(operation)
    return decided, rest


def _row(pricer: Pricer, members: list[Operation], pairs: tuple[FormatPair, ...], known: dict[tuple[object, ...], Row]) -> Row:
    """What the members cost together in each pair. Args: known: rows of members of the same matmuls."""
    key = (pairs, *(id(operation.matmul) for operation in members))
    if key not in known:
        priced = [[pricer.price(m.matmul, pricer.pair_of(m.matmul, pair)).metrics for m in members] for pair in pairs]
        known[key] = tuple(tuple(_sum([metrics[name] for metrics in together]) for together in priced) for name in METRICS)
    return known[key]


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None
