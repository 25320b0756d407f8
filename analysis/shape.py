"""What a record's parts must be before anything else looks at them: one table, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NUMBER = (int, float)


@dataclass(frozen=True, slots=True)
class Each:
    """An object of any keys, every value of one shape."""

    of: Any


PHASE = {"kind": str, "phase": str, "batch": NUMBER, "context": NUMBER, "times": NUMBER}
SCENARIO = {"device": str, "phases": [PHASE], "assume": [str], "kv_format": str}
TEXT = {"name": str, "sha256": str, "windows_sha256": str}
#: A type, types, {name: shape}, [shape] or Each(shape). What is not named here may be anything.
RECORD = {
    "key": str,
    "status": str,
    "specification": {
        "model": {"name": str, "sha256": str, "source": str},
        "method": str,
        "formats": [str],
        "policy": str,
        "budget": {"kind": str, "text": str, "amount": NUMBER, "bits_scales": str, "bits_weighting": str, **SCENARIO},
        "seed": int,
        "text": {"search": TEXT, "report": TEXT},
        "settings": {"search": {}, "scenario": SCENARIO, "device_sha256": str},
        "code": {"version": str, "sha256": str},
    },
    "assignment": {"layers": Each({"weight": str, "activation": str})},
    "achieved": {},
    "costs": {"device": str, "phase": PHASE, "layers": [{"name": str, "energy_by_term_pj": {}}]},
    "quality": {"tasks": Each({})},
    "trajectory": {"offsets": Each(Each([NUMBER])), **{name: [NUMBER] for name in ("step", "loss", "bits", "cost", "temperature")}},
    "timing": {},
    "environment": {},
    "error": {},
}


def misfit(content: Any, shape: Any = RECORD, where: str = "") -> str | None:
    """The first part of other shape, in words; None where all fits. Whatever is absent or null fits.

    Args: content: as JSON gives it.  where: the way to it, "costs.layers[3]".
    """
    if content is None:
        return None
    if isinstance(shape, list):
        if not isinstance(content, list):
            return _told(where, "a list", content)
        if set(map(type, content)) <= _types(shape[0]):  # lists of many numbers
            return None
        return next((told for place, one in enumerate(content) if (told := misfit(one, shape[0], f"{where}[{place}]"))), None)
    if isinstance(shape, dict | Each):
        if not isinstance(content, dict):
            return _told(where, "an object", content)
        inside = shape.items() if isinstance(shape, dict) else ((name, shape.of) for name in content)
        ways = ((content.get(name), part, f"{where}.{name}" if where else str(name)) for name, part in inside)
        return next((told for one, part, way in ways if (told := misfit(one, part, way))), None)
    if type(content) in _types(shape):
        return None
    return _told(where, "a string" if shape is str else "a whole number" if shape is int else "a number", content)


def _types(shape: Any) -> set[type]:
    """What one value may be; none for a shape that has parts."""
    if isinstance(shape, list | dict | Each):
        return set()
    return {type(None), *(shape if isinstance(shape, tuple) else (shape,))}


def _told(where: str, wanted: str, content: Any) -> str:
    return f"{where or 'record'}: {wanted} is expected, got {type(content).__name__}"
