"""What energy and latency are of: the device, its figures and assumptions, the steps and the KV cache; and which budgets ask the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from analysis.records import Record, number
from mxsim.devices import Device
from mxsim.devices.reader import figures_sha256, load_device
from mxsim.errors import MxsimError

#: Budgets that are met alike whatever the device and its steps: those are told, and change nothing.
ANYWHERE = ("bits", "bytes")
USUAL_CACHE = "bf16"
WIDE_BITS = 16  #: what a budget in bits is a share of


def cost_setting(record: Record) -> str:
    """All that must agree for two energies or latencies to be compared, in words; "" where a record has neither."""
    told = setting_words(record)
    return ", ".join([told, *_small_print(record.scenario, record.device_sha256)]) if told else ""


def setting_words(record: Record) -> str:
    """The device and all steps that a record's energy and latency are of, "" where it has neither: "b200, decode, batch 1, context 256"."""
    device = (record.costs or {}).get("device")
    return ", ".join([str(device), _words(steps_of(record), record.scenario)]) if device else ""


def step_words(record: Record) -> str:
    """The device and the one step that a record's layers are priced in, the first of its scenario; "" where they are not."""
    device = (record.costs or {}).get("device")
    return ", ".join([str(device), _words([{**steps_of(record)[0], "times": 1}], record.scenario)]) if device else ""


def priced_device(record: Record) -> tuple[Device | None, str]:
    """The device with the figures that a record's costs are of; None where they are not at hand, and why where others took their place."""
    name = str((record.costs or {}).get("device"))
    try:
        if record.device_sha256 not in ("", figures_sha256(name)):
            return None, f"figures of {name} have changed since the costs were modelled: its figures and roofs are not shown"
        return load_device(name, assume=[one for one in record.scenario.get("assume") or () if one]), ""
    except MxsimError:
        return None, ""


def is_one_step(record: Record) -> bool:
    """Whether a record's energy and latency are of a single step, taken once."""
    steps = steps_of(record)
    return len(steps) == 1 and (steps[0].get("times") or 1) == 1


def steps_of(record: Record) -> list[dict[str, Any]]:
    """The scenario's steps, contexts no longer than the model allows."""
    return _fitted(record, record.scenario.get("phases") or ()) or [dict(_priced(record))]


def _priced(record: Record) -> Mapping[str, Any]:
    """The step that layers are priced in."""
    return (record.costs or {}).get("phase") or {}


def _fitted(record: Record, asked: Iterable[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Steps as they were priced: where the first one's context was shortened, that is the model's longest."""
    steps = [dict(step) for step in asked if step]
    longest = number(_priced(record).get("context"))
    if steps and longest < number(steps[0].get("context")):
        return [{**step, "context": min(step["context"], int(longest))} if step.get("context") else step for step in steps]
    return steps


def budget_amount(budget: Mapping[str, Any]) -> float:
    """The budget's amount; a share of BF16's bits in bits, other shares as they are. NaN where it has none."""
    return number(budget.get("amount")) * (WIDE_BITS if budget.get("kind") == "bits" and budget.get("is_share") else 1)


def budget_id(record: Record) -> str:
    """The same for budgets that ask the same, however typed (bits=5, 5.0 and 0.3125x), and on any device where it does not matter."""
    budget = record.specification.get("budget")
    if not budget:
        return ""
    amount = f"{budget_amount(budget):.9g}{'x' if budget.get('is_share') and budget.get('kind') != 'bits' else ''}"
    return ", ".join([f"{budget_reading(budget)}={amount}", *(part for part in budget_place(record).values() if part)])


def budget_reading(budget: Mapping[str, Any]) -> str:
    """The budget's kind, with how bits are counted where that is not the plain way."""
    reading = [f"scales {budget['bits_scales']}"] if (budget.get("bits_scales") or "out") != "out" else []
    reading += [f"weighted by {budget['bits_weighting']}"] if (budget.get("bits_weighting") or "plain") != "plain" else []
    return " ".join([str(budget.get("kind") or ""), *reading])


def budget_place(record: Record) -> dict[str, str | None]:
    """Where a budget of costs is spent, part by part in words: device, steps, cache, assumed, figures. None where that does not matter."""
    budget = record.specification.get("budget") or {}
    if not budget or budget.get("kind") in ANYWHERE:
        return dict.fromkeys(("device", "steps", "cache", "assumed", "figures"))
    assumed = _assumed(budget)
    return {
        "device": f"on {budget['device']}" if budget.get("device") else None,
        "steps": _step_list(_fitted(record, budget.get("phases") or ())) or None,
        "cache": f"KV cache {budget.get('kv_format') or USUAL_CACHE}",
        "assumed": f"assuming {' and '.join(assumed) or 'nothing'}",
        "figures": f"figures {record.device_sha256[:12]}" if record.device_sha256 else None,
    }


def _words(steps: Iterable[Mapping[str, Any]], scenario: Mapping[str, Any]) -> str:
    cache = scenario.get("kv_format") or USUAL_CACHE
    return _step_list(steps) + ("" if cache == USUAL_CACHE else f", KV cache {cache}")


def _step_list(steps: Iterable[Mapping[str, Any] | None]) -> str:
    """ "prefill, batch 1, context 256; decode, batch 1, context 256, 100 times"."""
    return "; ".join(_step(step) for step in steps if step)


def _step(step: Mapping[str, Any]) -> str:
    parts = [str(step.get("kind") or step.get("phase") or "")]
    parts += [f"{name} {step[name]}" for name in ("batch", "context") if step.get(name) is not None]
    parts += [f"{step['times']:g} times"] if (step.get("times") or 1) != 1 else []
    return ", ".join(part for part in parts if part)


def _assumed(scenario: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in scenario.get("assume") or () if name)


def _small_print(scenario: Mapping[str, Any], figures: str) -> list[str]:
    assumed = _assumed(scenario)
    return ([f"assuming {' and '.join(assumed)}"] if assumed else []) + ([f"figures {figures[:12]}"] if figures else [])
