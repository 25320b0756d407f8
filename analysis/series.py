"""What a series is called: the method's title, and those of its choices that differ in the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.names import METHOD_TITLES, REFERENCES, TEXTLESS, format_titles
from analysis.records import Record
from analysis.scenarios import budget_place, budget_reading

#: A series spans them, they change no result, or what they change is told elsewhere: the windows by the subject, the device by budgets of
#: costs and by what energies are of.
UNTOLD_SETTINGS = ("seed", "budget", "device", "device_sha256", "threads", "scenario", "report_windows")
LOOK = ("tokens", "context", "search_part")  #: what of the search text a method looks at
ORDER = ("formats", "policy", "tied", "operands", "budgets", "steps", "cache", "assumed", "figures", *LOOK)
OWN = ("tied", "operands")  #: what a method's own way is to tie operands is told by its name already
COMMON = tuple(name for name in ORDER if name not in OWN)


def series_labels(records: Sequence[Record]) -> dict[str, str]:
    """A label for each record's key: records of one label are one series."""
    searched = [record for record in records if record.method not in REFERENCES]
    titles = format_titles(sorted({name for record in records for name in record.specification.get("formats") or ()}))
    choices = {record.key: _choices(record, titles) for record in searched}
    everywhere = _varied(choices, searched, COMMON)
    labels = {}
    for record in records:
        title = METHOD_TITLES[record.method]
        if record.method == "uniform":
            labels[record.key] = f"uniform {'/'.join(titles[name] for name in record.specification.get('formats') or ())}"
        elif record.method == "float":
            labels[record.key] = title
        else:
            siblings = [other for other in searched if other.method == record.method]
            varied = everywhere | _varied(choices, siblings, OWN)
            parts = [choices[record.key][name] for name in ORDER if name in varied]
            told = [part for part in (*parts, *_varied_settings(record, siblings)) if part]
            labels[record.key] = f"{title} ({', '.join(told)})" if told else title
    return labels


def _varied(choices: Mapping[str, Mapping[str, str | None]], records: Sequence[Record], names: Sequence[str]) -> set[str]:
    return {name for name in names if len({choices[record.key][name] for record in records} - {None}) > 1}


def _choices(record: Record, titles: Mapping[str, str]) -> dict[str, str | None]:
    specification = record.specification
    place = budget_place(record)
    device = place.pop("device")
    return {
        "formats": "/".join(titles[name] for name in specification.get("formats") or ()),
        "policy": str(specification.get("policy") or ""),
        "tied": "fused layers tied" if specification.get("tie") else "",
        "operands": "operands apart" if specification.get("apart") else "operands together",
        "budgets": f"budgets in {budget_reading(specification.get('budget') or {})}" + (f" {device}" if device else ""),
        **place,
        **_look(record),
    }


def look_words(record: Record) -> str:
    """What of the search text a run looked at: "tokens 65536, context 256, search_part first"; "" of a method that looks at none."""
    return ", ".join(part for part in _look(record).values() if part)


def _look(record: Record) -> dict[str, str | None]:
    told = {} if record.method in TEXTLESS else _settings(record)
    return {name: f"{name} {told[name]}" if name in told else None for name in LOOK}


def _varied_settings(record: Record, siblings: Sequence[Record]) -> list[str]:
    settings = _settings(record)
    everyone = [_settings(other) for other in siblings]
    return [
        f"{name} {_value(settings[name])}"
        for name in sorted(settings)
        if name not in LOOK and len({json.dumps(other.get(name), sort_keys=True) for other in everyone}) > 1
    ]


def _settings(record: Record) -> dict[str, Any]:
    """A run's settings that say something, the search's own among them."""
    settings = {**record.settings, **(record.settings.get("search") or {})}
    return {
        name: value
        for name, value in settings.items()
        if name not in (*UNTOLD_SETTINGS, "search") and value is not None and value not in ("", [], {})
    }


def _value(value: Any) -> str:
    """In words: of an object its names, each with the start of what it holds (tasks: the hash of the file)."""
    if isinstance(value, dict):
        return ", ".join(name if held is None else f"{name} {str(held)[:12]}" for name, held in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
