"""Reads what a sweep left behind: one JSON file a run, whole or not.

A record is described where it is written (dmx.records); reading it here takes no torch. Whatever cannot be used becomes a Problem with the
file's name and a plain reason; it never stops the rest.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError, NothingToDrawError
from analysis.names import METHOD_TITLES
from analysis.shape import misfit
from mxsim.json_files import finite

SCHEMA = 1
NEEDED = ("schema", "key", "status", "specification", "achieved", "quality")
MEASURED = ("achieved", "quality", "timing")  #: where a number that is none says what was found

Subject = tuple[str, str, str, str, str]  #: model, its bytes, report text, its bytes, the windows of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One finished run. The parts are those of the file, so that nothing is named twice."""

    key: str  #: hash of the specification
    path: Path
    specification: Mapping[str, Any]
    assignment: Mapping[str, Any] | None
    achieved: Mapping[str, float | None]
    costs: Mapping[str, Any] | None
    quality: Mapping[str, Any]
    trajectory: Mapping[str, Any] | None
    timing: Mapping[str, Any]
    environment: Mapping[str, Any]
    windows: str = ""  #: those of the report text that were scored: their hash; of older records how many tokens, where no other tells
    device_sha256: str = ""  #: of the figures of the scenario's device; of older records that of the others, where they have but one

    @property
    def method(self) -> str:
        """The method's name; uniform_fit for the uniform format that was chosen for a budget, which is a baseline and no reference."""
        name = str(self.specification["method"])
        return "uniform_fit" if name == "uniform" and self.specification.get("budget") else name

    @property
    def model(self) -> str:
        return str(self.specification["model"]["name"])

    @property
    def subject(self) -> Subject:
        """What must agree for two qualities to be compared: the model and its bytes, the text, its bytes and the windows of it."""
        return (*self._texts, self.windows)

    @property
    def _texts(self) -> tuple[str, str, str, str]:
        model, text = self.specification["model"], self.report_text
        return (str(model["name"]), str(model.get("sha256")), str(text.get("name")), str(text.get("sha256")))

    @property
    def report_text(self) -> Mapping[str, Any]:
        texts = self.specification.get("text") or {}
        return texts.get("report") or {}

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.specification.get("settings") or {}

    @property
    def scenario(self) -> Mapping[str, Any]:
        """The device and the steps that energy and latency are of, as they were asked for; empty where a record tells none."""
        return self.settings.get("scenario") or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that could not be used, or a run that failed."""

    kind: str  #: "unreadable" or "failed"
    path: Path
    reason: str
    method: str = ""  #: of a failed run
    budget: str = ""

    def __str__(self) -> str:
        run = f" ({self.method}{', ' + self.budget if self.budget else ''})" if self.method else ""
        return f"{self.kind}: {self.path.name}{run}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A result folder, read."""

    folder: Path
    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = ()
    sweep: Mapping[str, Any] | None = None  #: the sweep's own specification: what was asked

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.model for record in self.records))

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return tuple(dict.fromkeys(record.subject for record in self.records))

    def with_records(self, records: Iterable[Record]) -> Results:
        return replace(self, records=tuple(records))

    def with_problems(self, problems: Iterable[Problem]) -> Results:
        return replace(self, problems=tuple(problems))


def read_results(folder: str | Path) -> Results:
    """Every record of a sweep's folder, in the order of their names.

    Args: folder: what `dmx sweep -o` wrote, or the records folder inside it.
    Raises: AnalysisError where there is no folder or no record; NothingToDrawError where no run finished.
    """
    top = Path(folder)
    if not top.exists():
        raise AnalysisError(f"no folder {str(folder)!r}: give the one that dmx sweep -o wrote")
    if not top.is_dir():
        raise AnalysisError(f"{str(folder)!r} is a file: give the folder that dmx sweep -o wrote")
    inside = top / "records"
    files = sorted((inside if inside.is_dir() else top).glob("*.json"))
    files = [file for file in files if file.name not in ("sweep.json", "hardware.json")]
    if not files:
        raise AnalysisError(f"{str(folder)!r} holds no record (records/*.json): run dmx sweep -o {folder} first")
    records: list[Record] = []
    problems: list[Problem] = []
    for file in files:
        found = _read(file)
        if isinstance(found, Record):
            records.append(found)
        else:
            problems.append(found)
    sweep, sweep_problem = _read_sweep((top if inside.is_dir() else top.parent) / "sweep.json")
    problems += sweep_problem
    if not records:
        told = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        kind = AnalysisError if all(problem.kind == "unreadable" for problem in problems) else NothingToDrawError
        raise kind(f"none of the {len(files)} records in {str(folder)!r} is of a finished run:\n{told}{more}")
    records = _told_by_others(records)
    return Results(folder=top, records=tuple(records), problems=tuple(problems), sweep=sweep)


def choose(results: Results, *, model: str | None = None, text: str | None = None) -> list[Results]:
    """The results apart by what can be compared: one model and the same windows of one report text each, in the folder's order.

    Args: model, text: keep only those of that name.  Raises: AnalysisError for a name that no record has.
    """
    for kind, name, known in (
        ("model", model, list(results.models)),
        ("text", text, sorted({subject[2] for subject in results.subjects})),
    ):
        if name is not None and name not in known:
            raise AnalysisError(f"no record of {kind} {name!r}: the folder has {', '.join(known)}")
    wanted = [subject for subject in results.subjects if model in (None, subject[0]) and text in (None, subject[2])]
    if not wanted:
        raise AnalysisError(f"no record of model {model!r} with text {text!r}: leave one of the two out")
    return [results.with_records(record for record in results.records if record.subject == subject) for subject in wanted]


def part_of(results: Results, keys: Iterable[str]) -> Results:
    """The runs of these keys alone, of one model and one text.

    Raises: AnalysisError where no run of these keys finished, or where they are of several models or texts.
    """
    wanted = set(keys)
    part = results.with_records(record for record in results.records if record.key in wanted)
    if len(part.subjects) != 1:
        told = "none of these runs" if not part.records else f"runs of {len(part.subjects)} models or texts"
        raise AnalysisError(f"{told} in {str(results.folder)!r}, the runs of one model and text are expected: name runs of one sweep")
    return part


def _told_by_others(records: list[Record]) -> list[Record]:
    """The records with what older ones do not tell: the windows and the device's figures, where the others know but one answer.

    Windows are taken from records that scored as many tokens of the same text.
    """
    windows: dict[Hashable, set[str]] = defaultdict(set)
    figures: dict[Hashable, set[str]] = defaultdict(set)
    for record in records:
        windows[_scored(record)].add(str(record.report_text.get("windows_sha256") or ""))
        figures[record.scenario.get("device")].add(str(record.settings.get("device_sha256") or ""))
    found = []
    for record in records:
        scored = record.report_text.get("windows_sha256") or _only(windows[_scored(record)]) or f"{record.quality.get('tokens')} tokens"
        device = record.settings.get("device_sha256") or _only(figures[record.scenario.get("device")])
        found.append(replace(record, windows=str(scored), device_sha256=str(device)))
    return found


def _scored(record: Record) -> Hashable:
    return (record._texts, str(record.quality.get("tokens")))


def _only(told: set[str]) -> str:
    known = told - {""}
    return next(iter(known)) if len(known) == 1 else ""


def _read_sweep(path: Path) -> tuple[Mapping[str, Any] | None, list[Problem]]:
    if not path.exists():
        return None, []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, [Problem(kind="unreadable", path=path, reason=f"what was asked is not whole JSON: {error}")]
    return (finite(content), []) if isinstance(content, dict) else (None, [])


def _read(path: Path) -> Record | Problem:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Problem(kind="unreadable", path=path, reason=str(error))
    if not text.strip():
        return Problem(kind="unreadable", path=path, reason="the file is empty: the run was cut off; dmx sweep does it again")
    try:
        content = json.loads(text)
    except ValueError as error:
        return Problem(kind="unreadable", path=path, reason=f"not whole JSON ({error}): delete it, and dmx sweep does the run again")
    if isinstance(content, dict) and ("NaN" in text or "Infinity" in text):
        content = {name: part if name in MEASURED else finite(part) for name, part in content.items()}
    try:
        return _checked(path, content)
    except AnalysisError as error:
        return Problem(kind="unreadable", path=path, reason=str(error))


def _checked(path: Path, content: Any) -> Record | Problem:
    if not isinstance(content, dict):
        raise AnalysisError(f"a JSON object is expected, got {type(content).__name__}")
    if content.get("schema") != SCHEMA:
        raise AnalysisError(f"record schema {content.get('schema')!r}, this version reads {SCHEMA}: use the version that wrote it")
    failed = content.get("status") == "failed"
    spared = ("achieved", "quality") if failed else ("achieved",) if "achieved" in content else ()
    missing = [key for key in NEEDED if content.get(key) is None and key not in spared]
    if missing:
        raise AnalysisError(f"{', '.join(repr(key) for key in missing)} missing: is it a record of dmx sweep?")
    reason = misfit(content)
    if reason:
        raise AnalysisError(reason)
    specification = content["specification"]
    method = specification.get("method")
    if method not in METHOD_TITLES:
        raise AnalysisError(f"unknown method {method!r}: known are {', '.join(METHOD_TITLES)}")
    budget = specification.get("budget")
    if failed:
        error = content.get("error") or {}
        reason = f"{error.get('type', 'error')}: {error.get('message', 'no message kept')}"
        return Problem(kind="failed", path=path, reason=reason, method=method, budget=str((budget or {}).get("text") or ""))
    if content["status"] != "done":
        raise AnalysisError(f'status {content["status"]!r}: known are "done" and "failed"')
    if not (specification.get("model") or {}).get("name"):
        raise AnalysisError("specification.model.name is missing: no run can be compared without its model")
    if None in (specification.get("formats") or ()):
        raise AnalysisError("specification.formats: a name is expected, got null")
    if budget and math.isnan(number(budget.get("amount"))):
        raise AnalysisError(f"specification.budget.amount must be a number, got {budget.get('amount')!r}")
    _check_layers(content.get("assignment"), content.get("costs") or {})
    return Record(
        key=str(content["key"]),
        path=path,
        specification=specification,
        assignment=content.get("assignment"),
        achieved=content["achieved"] or {},
        costs=content.get("costs"),
        quality=content["quality"],
        trajectory=content.get("trajectory"),
        timing=content.get("timing") or {},
        environment=content.get("environment") or {},
    )


def _check_layers(assignment: Mapping[str, Any] | None, costs: Mapping[str, Any]) -> None:
    """Raises: AnalysisError for a layer without its formats or its name."""
    if assignment is not None:
        if assignment.get("layers") is None:
            raise AnalysisError("assignment.layers: an object is expected, got null")
        for layer, pair in assignment["layers"].items():
            if not pair or None in (pair.get("weight"), pair.get("activation")):
                raise AnalysisError(f'assignment.layers[{layer!r}] must be {{"weight": F, "activation": F}}, got {pair!r}')
    for place, priced in enumerate(costs.get("layers") or ()):
        if not priced or priced.get("name") is None:
            raise AnalysisError(f"costs.layers[{place}].name is missing: no cost can be told without its layer")


def number(value: Any) -> float:
    """A finite float, or NaN: what JSON's null, Infinity and NaN, and whatever is no number, all come to."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan
