"""Reads what a sweep left behind: one JSON file a run, whole or not.

A record is described where it is written (dmx.records); reading it here takes no torch. Whatever cannot be used becomes a Problem with the
file's name and a plain reason; it never stops the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError, NothingToDrawError
from analysis.names import METHOD_TITLES

SCHEMA = 1
NEEDED = ("schema", "key", "status", "specification", "achieved", "quality")


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

    @property
    def method(self) -> str:
        """The method's name; uniform_fit for the uniform format that was chosen for a budget, which is a baseline and no reference."""
        name = str(self.specification["method"])
        return "uniform_fit" if name == "uniform" and self.specification.get("budget") else name

    @property
    def model(self) -> str:
        return str(self.specification["model"]["name"])

    @property
    def subject(self) -> tuple[str, str, str, str]:
        """What must agree for two qualities to be compared: the model and its bytes, the text and its bytes."""
        model, text = self.specification["model"], self.report_text
        return (str(model["name"]), str(model.get("sha256")), str(text.get("name")), str(text.get("sha256")))

    @property
    def report_text(self) -> Mapping[str, Any]:
        texts = self.specification.get("text") or {}
        return texts.get("report") or {}


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
    def subjects(self) -> tuple[tuple[str, str, str, str], ...]:
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
    return Results(folder=top, records=tuple(records), problems=tuple(problems), sweep=sweep)


def choose(results: Results, *, model: str | None = None, text: str | None = None) -> list[Results]:
    """The results apart by what can be compared: one model and one report text each, in the folder's order.

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
    """The part, of one model and one text, that the runs of these keys belong to, with all that can be compared with them.

    Raises: AnalysisError where no run of these keys finished, or where they belong to several parts.
    """
    wanted = set(keys)
    parts = [part for part in choose(results) if any(record.key in wanted for record in part.records)]
    if len(parts) != 1:
        told = "none of these runs" if not parts else f"runs of {len(parts)} models or texts"
        raise AnalysisError(f"{told} in {str(results.folder)!r}, the runs of one model and text are expected: name runs of one sweep")
    return parts[0]


def _read_sweep(path: Path) -> tuple[Mapping[str, Any] | None, list[Problem]]:
    if not path.exists():
        return None, []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, [Problem(kind="unreadable", path=path, reason=f"what was asked is not whole JSON: {error}")]
    return (content, []) if isinstance(content, dict) else (None, [])


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
    missing = [key for key in NEEDED if key not in content and not (failed and key in ("achieved", "quality"))]
    if missing:
        raise AnalysisError(f"{', '.join(repr(key) for key in missing)} missing: is it a record of dmx sweep?")
    specification = _object(content["specification"], "specification")
    method = specification.get("method")
    if method not in METHOD_TITLES:
        raise AnalysisError(f"unknown method {method!r}: known are {', '.join(METHOD_TITLES)}")
    if failed:
        error = content.get("error") or {}
        reason = f"{error.get('type', 'error')}: {error.get('message', 'no message kept')}"
        budget = (specification.get("budget") or {}).get("text", "")
        return Problem(kind="failed", path=path, reason=reason, method=str(method), budget=str(budget))
    if content["status"] != "done":
        raise AnalysisError(f'status {content["status"]!r}: known are "done" and "failed"')
    model = _object(specification.get("model"), "specification.model")
    if not isinstance(model.get("name"), str):
        raise AnalysisError("specification.model.name is missing: no run can be compared without its model")
    budget = specification.get("budget")
    if budget is not None:
        amount = _object(budget, "specification.budget").get("amount")
        if not isinstance(amount, int | float) or not math.isfinite(amount):
            raise AnalysisError(f"specification.budget.amount must be a number, got {amount!r}")
    quality = _object(content["quality"], "quality")
    _object(quality.get("tasks") or {}, "quality.tasks")
    assignment = content.get("assignment")
    if assignment is not None:
        for layer, pair in _object(_object(assignment, "assignment").get("layers"), "assignment.layers").items():
            if not isinstance(pair, dict) or not {"weight", "activation"} <= set(pair):
                raise AnalysisError(f'assignment.layers[{layer!r}] must be {{"weight": F, "activation": F}}, got {pair!r}')
    return Record(
        key=str(content["key"]),
        path=path,
        specification=specification,
        assignment=assignment,
        achieved=_object(content["achieved"] or {}, "achieved"),
        costs=content.get("costs"),
        quality=quality,
        trajectory=content.get("trajectory"),
        timing=content.get("timing") or {},
        environment=content.get("environment") or {},
    )


def _object(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise AnalysisError(f"{where}: an object is expected, got {type(content).__name__}")
    return content
