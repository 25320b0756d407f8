"""What a model costs on a device: bytes, energy and latency of every layer, and their sums.

report = mxsim.cost("Llama-3.1-8B", "b200", "mxfp4_e2m1", phase="decode", batch=1, context=1024)
report.totals["latency_s"]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any

from mxsim.assignment import Assignment
from mxsim.devices.reader import load_device
from mxsim.devices.spec import Device
from mxsim.errors import MxsimError, unknown_name
from mxsim.model_config import resolve_shape
from mxsim.name_patterns import is_named
from mxsim.pricing import LayerCost, Price, Pricer, whole
from mxsim.shapes import ModelShape
from mxsim.storage_formats import STORAGE_FORMATS, WIDE_PAIR, FormatPair
from mxsim.version import VERSION
from mxsim.workload import Matmul, Phase, Workload, build_workload

DEFAULT_CONTEXT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Every layer's cost, and the sums."""

    label: str  #: what was compared: the format pair, or the assignment's file
    workload: Workload
    device: Device
    kv_pair: FormatPair
    step_overhead_s: float  #: what the software around the matmuls takes for a step
    layers: tuple[LayerCost, ...]

    def sum(self, metric: str) -> float | None:
        """The sum of a metric over all layers, None where one of them lacks it.

        Groups are summed first, as in a cost table, so that both give the same last bit where its decisions are whole groups.
        """
        groups: dict[str, list[float]] = {}
        for layer in self.layers:
            value = layer.price.metrics[metric]
            if value is None:
                return None
            groups.setdefault(layer.operation.group, []).append(value)
        return math.fsum(math.fsum(values) for values in groups.values())

    @property
    def missing(self) -> tuple[str, ...]:
        """The device figures for want of which a sum is None."""
        return tuple(sorted({name for layer in self.layers for name in layer.price.missing}))

    @property
    def totals(self) -> dict[str, Any]:
        workload, shape = self.workload, self.workload.shape
        weight_bytes = self.sum("weight_bytes") or 0.0
        energy_pj, latency_s = self.sum("energy_pj"), self.sum("latency_s")
        if energy_pj is not None:
            energy_pj += self._overhead_energy_pj() or 0.0
        if latency_s is not None:
            latency_s += self.step_overhead_s
        linears = [layer for layer in self.layers if layer.matmul.kind == "linear"]
        linear_bits = 8 * math.fsum(layer.price.traffic.stored_weight_bytes - 2 * layer.matmul.biases for layer in linears)
        linear_weights = sum(layer.matmul.parameters - layer.matmul.biases for layer in linears)
        kv = [STORAGE_FORMATS[name].row_bits(shape.head_dim) for name in (self.kv_pair.weight, self.kv_pair.activation)]
        bound: dict[str, float] = {}
        for layer in self.layers:
            if layer.price.roofline is not None:
                bound[layer.price.roofline.bound] = bound.get(layer.price.roofline.bound, 0) + layer.price.roofline.latency_s
        return {
            "parameters": workload.parameters,
            "macs": whole(math.fsum(layer.matmul.macs for layer in self.layers)),
            "weight_bytes": whole(weight_bytes),
            "kv_bytes_per_token": whole(shape.layers * shape.kv_heads * (kv[0] + kv[1]) / 8),
            "bits_per_weight": 8 * weight_bytes / workload.parameters,
            "bits_per_linear_weight": linear_bits / linear_weights,
            "dram_bytes": whole(self.sum("dram_bytes") or 0.0),
            "energy_pj": energy_pj,
            "energy_by_term_pj": self.energy_by_term_pj(),
            "latency_s": latency_s,
            "step_overhead_s": self.step_overhead_s,
            "latency_by_bound_s": bound if latency_s is not None else None,
            "tokens_per_s": workload.phase.tokens / latency_s if latency_s else None,
            "fits_in_memory": self._fits(weight_bytes, shape, kv),
        }

    def _fits(self, weight_bytes: float, shape: ModelShape, kv: list[int]) -> bool | None:
        """Whether weights and the KV cache fit; None where the capacity is not known."""
        capacity = self.device.memory.capacity_bytes
        if capacity is None:
            return None
        phase = self.workload.phase
        tokens = sum(shape.attended(layer, phase.context) for layer in range(shape.layers)) * phase.batch
        return weight_bytes + tokens * shape.kv_heads * (kv[0] + kv[1]) / 8 <= capacity.value

    def energy_by_term_pj(self) -> dict[str, float | None]:
        """Each energy term's sum, None where it is not known for every layer; static power's has the step's overhead in it."""
        sums: dict[str, float | None] = {}
        for term in ("mac", "sram", "dram", "quantise", "static"):
            values = [getattr(layer.price.energy, f"{term}_pj") for layer in self.layers]
            sums[term] = None if None in values else math.fsum(values)
        overhead = self._overhead_energy_pj()
        sums["static"] = None if sums["static"] is None or overhead is None else sums["static"] + overhead
        return sums

    def _overhead_energy_pj(self) -> float | None:
        """What static power takes while the software around the matmuls runs."""
        static_w = self.device.power.static_w
        if not self.step_overhead_s:
            return 0.0
        return None if static_w is None else 1e12 * static_w.value * self.step_overhead_s

    def to_json(self) -> dict[str, Any]:
        """{"layers", "totals", "provenance"}, plain types."""
        return {"layers": [layer.to_json() for layer in self.layers], "totals": self.totals, "provenance": self.provenance()}

    def provenance(self) -> dict[str, Any]:
        device, shape = self.device, self.workload.shape
        used = {assumption.name: assumption.says for assumption in device.assumptions if assumption.name in device.accepted}
        return {
            "mxsim": VERSION,
            "label": self.label,
            "model": {"name": shape.name, "family": shape.family, "source": shape.source},
            "phase": {"kind": self.workload.phase.kind, "batch": self.workload.phase.batch, "context": self.workload.phase.context},
            "kv_format": str(self.kv_pair),
            "merged": self.workload.merged,
            "device": {
                "name": device.name,
                "title": device.title,
                "notes": device.notes,
                "figures": {
                    name: {"value": figure.value, "kind": figure.kind, "source": figure.source} for name, figure in device.figures()
                },
            },
            "assumptions": used,
            "missing": list(self.missing),
        }


def cost(
    model: str | Path | Mapping[str, Any] | ModelShape,
    hardware: str | Path | Device,
    assignment: Assignment | FormatPair | str | Path,
    phase: str = "decode",
    batch: int = 1,
    context: int | None = None,
    *,
    kv_format: str = "bf16",
    assume: Iterable[str] = (),
    only: Iterable[str] = (),
    step_overhead_s: float = 0.0,
    merge: bool = False,
) -> CostReport:
    """Bytes, energy and latency of every layer of a model for one forward step on a device.

    Args: model: see mxsim.model_config.resolve_shape.  hardware: a device's name, its TOML file, or a Device.
        assignment: an Assignment, where linears that it leaves out stay bf16; its file, which says of every linear what it takes, or that
        it is skipped; or one pair for all of the decoder's linears, "W" or "W:A".
        phase: "prefill" of `batch` prompts of `context` tokens, or "decode" of a token for each of `batch` sequences of
        `context` tokens.  context: 1024, or the model's longest where that is less, when None.  kv_format: "F" or "K:V".
        assume: assumptions of the device that are accepted, by name.  only: patterns, as in a shell; a linear that none of them
        matches stays bf16.  step_overhead_s: seconds that the software around the matmuls takes for each step.
        merge: q, k and v run as one launch that quantises and reads their input once where their formats agree, so do gate and up, as
        in serving runtimes. Without it each linear runs alone, and costs are linear in every choice, tied or not.
    Returns: a CostReport. Energy or latency is None where the device lacks a figure; `missing` names it.
    Raises: MxsimError for anything that does not fit together; the message names the remedy.
    """
    shape = resolve_shape(model)
    device = load_device(hardware, assume=_strings(assume, "assume"))
    if context is None:
        context = min(DEFAULT_CONTEXT, shape.max_context)
    is_number = isinstance(step_overhead_s, Real) and not isinstance(step_overhead_s, bool)
    if not (is_number and 0 <= step_overhead_s <= sys.float_info.max):
        raise MxsimError(f"step_overhead_s = {step_overhead_s!r} must be a finite number of at least 0")
    workload = build_workload(shape, Phase(kind=phase, batch=batch, context=context), merge=merge)
    label, chosen = _chosen(assignment, workload, _strings(only, "only"))
    return price_workload(workload, device, chosen, kv_format=kv_format, step_overhead_s=step_overhead_s, label=label)


def _strings(given: Iterable[str], key: str) -> tuple[str, ...]:
    """One string or several."""
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else None
    if found is None or not all(isinstance(text, str) for text in found):
        raise MxsimError(f"{key} = {given!r} must be a list of strings; () is none")
    return found


def price_workload(
    workload: Workload,
    device: Device,
    chosen: Mapping[str, FormatPair],
    *,
    kv_format: str = "bf16",
    step_overhead_s: float = 0.0,
    label: str = "",
    pricer: Pricer | None = None,
) -> CostReport:
    """The cost of a workload when each linear has the pair `chosen` for its name; a linear without one stays bf16.

    In a merged workload, linears that could share a launch but differ in their formats run alone.
    """
    prices = pricer or Pricer(device, kv_format)
    split = _split_groups(workload, chosen) if workload.merged else set()
    layers = []
    seen: dict[tuple[int, FormatPair], Price] = {}  # layers share their matmuls, and comparing identities is quick
    for operation in workload.operations:
        if operation.group in split:
            operation = operation._replace(matmul=_alone(operation.matmul))
        matmul = operation.matmul
        pair = prices.pair_of(matmul, chosen.get(operation.name, WIDE_PAIR))
        price = seen.get((id(matmul), pair))
        if price is None:
            price = seen[id(matmul), pair] = prices.price(matmul, pair)
        layers.append(LayerCost(operation=operation, pair=pair, price=price))
    return CostReport(
        label=label,
        workload=workload,
        device=device,
        kv_pair=prices.kv_pair,
        step_overhead_s=step_overhead_s,
        layers=tuple(layers),
    )


def _split_groups(workload: Workload, chosen: Mapping[str, FormatPair]) -> set[str]:
    """Groups of a merged workload whose linears differ in their formats."""
    pairs: dict[str, set[FormatPair]] = {}
    for operation in workload.operations:
        if operation.matmul.merged > 1:
            pairs.setdefault(operation.group, set()).add(chosen.get(operation.name, WIDE_PAIR))
    return {group for group, found in pairs.items() if len(found) > 1}


@lru_cache(maxsize=256)
def _alone(matmul: Matmul) -> Matmul:
    """The same matmul with a launch and a quantise pass of its own."""
    return replace(matmul, merged=1)


def _chosen(
    assignment: Assignment | FormatPair | str | Path, workload: Workload, only: tuple[str, ...]
) -> tuple[str, dict[str, FormatPair]]:
    """A label, and the pair of each linear that has one."""
    label = str(assignment)
    is_file = isinstance(assignment, Path) or (isinstance(assignment, str) and (assignment.endswith(".json") or "/" in assignment))
    if isinstance(assignment, (str, Path)):
        assignment = Assignment.load(assignment) if is_file else FormatPair.parse(str(assignment))
    if not isinstance(assignment, (Assignment, FormatPair)):
        raise MxsimError(f"assignment is {assignment!r}: pass an Assignment, its file, or a pair of formats such as 'mxfp8_e4m3:bf16'")
    linears = workload.linears
    if isinstance(assignment, FormatPair):
        layers: Mapping[str, FormatPair] = dict.fromkeys(linears, assignment)
    else:
        label = "assignment" if label.startswith("Assignment(") else label
        layers = assignment.layers
        known = set(linears)
        for name in layers:
            if name not in known:
                raise unknown_name(f"layer of {workload.shape.name}", name, linears)
        told = {*layers, *assignment.skipped}
        silent = [name for name in linears if name not in told] if is_file else []
        if silent:
            raise MxsimError(
                f"assignment {label!r} says nothing of {len(silent)} linears of {workload.shape.name}, such as {silent[0]!r}: it was made "
                'for another model; or name them among its "skipped", where they are to stay bf16'
            )
    for pattern in only:
        if not any(is_named(name, [pattern]) for name in linears):
            raise MxsimError(f"pattern {pattern!r} matches none of the linears of {workload.shape.name}, such as {linears[0]}")
    kept = {name: pair for name, pair in layers.items() if not only or is_named(name, only)}
    return (f"{label} only {' '.join(only)}" if only else label), kept
