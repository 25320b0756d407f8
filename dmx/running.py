"""One run, start to end: from its specification to its record."""

from __future__ import annotations

import json
import math
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dmx.allocators import allocate
from dmx.budget import Budget, Scenario, achieved
from dmx.errors import DmxError
from dmx.evaluation import evaluate
from dmx.models import LoadedModel, load_model
from dmx.records import DONE, FAILED, SCHEMA, Run
from dmx.search_config import PRESETS
from dmx.search_state import TRAJECTORY_FILE
from dmx.searching import search
from dmx.task_files import task_sha256
from dmx.text import TokenText, read_text, tokenize
from mxsim.assignment import Assignment
from mxsim.costing import price_workload
from mxsim.devices.reader import load_device
from mxsim.errors import MxsimError
from mxsim.workload import Phase, build_workload

#: method -> the preset it searches with
SEARCHES = {"dmx": "default", "dmx_kl": "kl", "dmx_paper": "paper"}
#: Of some files: their names, when each was written, how long it is.
State = tuple[tuple[str, int, int], ...]


def record_of(run: Run, folder: Path, *, progress: bool = False) -> dict[str, Any]:
    """Do a run. Whatever goes wrong with its input becomes a record that says so. Args: progress: show bars of its own."""
    try:
        body = _done(run, folder, progress)
        check_finite({name: body[name] for name in ("achieved", "quality")})
    except Exception as error:  # a sweep goes on whatever one run meets; the record keeps the error
        return failed_record(run, error)
    return {**_head(run), "status": DONE, "error": None, **body}


def check_finite(content: Any, where: str = "") -> None:
    """Raises: DmxError naming the first number that is not finite: JSON has none, and no quality is one."""
    if isinstance(content, float) and not math.isfinite(content):
        raise DmxError(f"{where} is {content}, which is no result: take formats or a budget that leave the model more bits")
    if isinstance(content, Mapping):
        for name, part in content.items():
            check_finite(part, f"{where}.{name}".removeprefix("."))
    elif isinstance(content, list | tuple):
        for index, part in enumerate(content):
            check_finite(part, f"{where}[{index}]")


def failed_record(run: Run, error: Exception) -> dict[str, Any]:
    """The record of a run that came to nothing."""
    known = isinstance(error, DmxError | MxsimError)
    trace = None if known else "".join(traceback.format_exception(error))
    told = {"type": type(error).__name__, "message": str(error), "traceback": trace}
    return {**_head(run), "status": FAILED, "error": told, "achieved": None, "quality": None, "assignment": None}


def _head(run: Run) -> dict[str, Any]:
    return {"schema": SCHEMA, "key": run.key, "specification": dict(run.specification), "environment": environment()}


def environment() -> dict[str, str]:
    """What ran it."""
    packages = {name: version(name) for name in ("torch", "transformers", "numpy", "numba", "mxsim")}
    return {"python": platform.python_version(), "platform": platform.platform(), "command": command_line(), **packages}


def command_line() -> str:
    """What was called, as a shell takes it: a program by its name, a module of a package with `python -m`."""
    program = Path(sys.argv[0])
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    if program.name == "__main__.py":
        called = ["python", "-m", program.parent.name]
    elif specification is not None and program.suffix == ".py":
        called = ["python", "-m", specification.name]
    else:
        called = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*called, *sys.argv[1:]])


@lru_cache(maxsize=2)
def _model(place: str | None, state: State) -> LoadedModel:
    return load_model(place)


@lru_cache(maxsize=4)
def _text(
    model_place: str | None, model_state: State, place: str | None, state: State, part: str, context: int | None, split: str
) -> TokenText:
    model = _model(model_place, model_state)
    if place is None:
        from dmx import reference

        return tokenize(model, reference.text(split), name=f"embedded world, {split}", context=context, part=part)
    return tokenize(model, read_text(place), name=Path(place).name, context=context, part=part)


def _state(place: str | None) -> State:
    """What tells a file, or the files of a folder, from those that were there before."""
    path = None if place is None else Path(place)
    files = [] if path is None else [path] if path.is_file() else sorted(one for one in path.glob("[!.]*") if one.is_file())
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _tokens(run: Run, split: str) -> TokenText:
    settings, model, place = run.specification["settings"], run.places["model"], run.places[f"{split}_text"]
    return _text(model, _state(model), place, _state(place), settings[f"{split}_part"], settings["context"], split)


def search_tokens(run: Run) -> TokenText:
    """The text that a run's search and scores look at."""
    return _tokens(run, "search")


def report_tokens(run: Run) -> TokenText:
    """The text that a run reports on."""
    return _tokens(run, "report").first(run.specification["settings"]["report_windows"])


def _done(run: Run, folder: Path, progress: bool) -> dict[str, Any]:
    asked = run.specification
    model = _model(run.places["model"], _state(run.places["model"]))
    for name, found, wanted in _inputs(run, model):
        if found != wanted:
            raise DmxError(f"{name} is not the one that the sweep was made for, it has changed: put it back, or start a new sweep folder")
    scenario = scenario_of(asked["settings"]["scenario"])
    started = time.perf_counter()
    assignment, trajectory = _assignment(run, model, folder, progress)
    searched = time.perf_counter()
    quality = evaluate(
        model,
        assignment,
        text=report_tokens(run),
        tasks=tuple(run.places.get(f"task:{name}") or name for name in asked["settings"]["tasks"]),
        task_limit=asked["settings"]["task_limit"],
        progress=progress,
    )
    evaluated = time.perf_counter()
    spent = achieved(assignment or _wide(model), model.shape, scenario)
    return {
        "assignment": assignment.to_json() if assignment else None,
        "achieved": spent,
        "costs": _costs(assignment or _wide(model), model, scenario),
        "quality": {
            "perplexity": quality["perplexity"],
            "tokens": quality["tokens"],
            "kl_to_float": quality["kl_to_float"],
            "tasks": quality["tasks"],
        },
        "trajectory": trajectory,
        "timing": {"seconds_search": searched - started, "seconds_evaluate": evaluated - searched},
    }


def _inputs(run: Run, model: LoadedModel) -> Iterator[tuple[str, Any, Any]]:
    """What goes into a run: its name, what identifies it as it is now, and what the specification says of it."""
    asked, settings = run.specification, run.specification["settings"]
    hashes = {"sha256": model.sha256, "config_sha256": model.config_sha256, "stored_sha256": model.stored_sha256}
    yield f"model {model.name!r}", hashes, {name: asked["model"][name] for name in hashes}
    for which, tokens in (("search", search_tokens), ("report", report_tokens)):
        yield f"the {which}'s text", tokens(run).identity, asked["text"][which]
    for name, sha256 in settings["tasks"].items():
        place = run.places.get(f"task:{name}")
        yield f"task {name!r}", None if place is None else task_sha256(Path(place)), sha256
    scenario = scenario_of(settings["scenario"])
    yield f"device {scenario.device!r}", scenario.device_sha256, settings["device_sha256"]


def _wide(model: LoadedModel) -> Assignment:
    return Assignment.uniform(model.linears, "bf16")


def _assignment(run: Run, model: LoadedModel, folder: Path, progress: bool) -> tuple[Assignment | None, dict[str, Any] | None]:
    asked, settings = run.specification, run.specification["settings"]
    method, formats = asked["method"], tuple(asked["formats"])
    if method == "float":
        return None, None
    if method == "uniform" and asked["budget"] is None:
        return Assignment.uniform(model.linears, formats[0], policy=asked["policy"]), None
    budget = budget_of(asked["budget"])
    if method in SEARCHES:
        work = folder / "work" / run.key
        changed = {"formats": formats, "policy": asked["policy"], "seed": asked["seed"], "tie": asked["tie"], "apart": asked["apart"]}
        assignment = search(
            model,
            budget,
            config=SEARCHES[method],
            text=search_tokens(run),
            folder=work,
            progress=progress,
            **{**changed, **settings["search"]},
        )
        trajectory = work / TRAJECTORY_FILE
        found = json.loads(trajectory.read_text(encoding="utf-8")) if trajectory.is_file() else None
        return assignment, found
    assignment = allocate(
        model,
        method,
        budget,
        formats=formats,
        tie=asked["tie"],
        apart=asked["apart"],
        policy=asked["policy"],
        text=search_tokens(run),
        tokens=settings["tokens"],
        seed=asked["seed"],
        cache=folder / "scores",
        progress=progress,
    )
    return assignment, None


def budget_of(content: Mapping[str, Any]) -> Budget:
    """The budget that Budget.to_json wrote."""
    return Budget(
        kind=content["kind"],
        amount=content["amount"],
        is_share=content["is_share"],
        scenario=scenario_of(content),
        bits_scales=content.get("bits_scales", "out"),
        bits_weighting=content.get("bits_weighting", "plain"),
    )


def scenario_of(content: Mapping[str, Any]) -> Scenario:
    """The scenario that Scenario.to_json wrote."""
    return Scenario(
        device=content["device"],
        phases=tuple((Phase(kind=p["phase"], batch=p["batch"], context=p["context"]), p["times"]) for p in content["phases"]),
        assume=tuple(content["assume"]),
        kv_format=content["kv_format"],
        shortens=content.get("shortens"),
    )


def _costs(assignment: Assignment, model: LoadedModel, scenario: Scenario) -> dict[str, Any] | None:
    """Every layer's cost in the scenario's first phase."""
    shape = model.shape
    if shape is None or scenario.device is None:
        return None
    phase, _ = scenario.fitted(shape).phases[0]
    device = load_device(scenario.device, assume=list(scenario.assume))
    report = price_workload(build_workload(shape, phase), device, assignment.layers, kv_format=scenario.kv_format)
    kept = ("name", "macs", "weight_bytes", "dram_bytes", "energy_pj", "latency_s")
    terms = ("mac", "sram", "dram", "quantise", "static")
    layers = []
    for layer in report.layers:
        row = layer.to_json()
        layers.append({name: row[name] for name in kept} | {"energy_by_term_pj": {term: row[f"energy_{term}_pj"] for term in terms}})
    return {"device": scenario.device, "phase": {"kind": phase.kind, "batch": phase.batch, "context": phase.context}, "layers": layers}


def default_settings(method: str) -> dict[str, Any]:
    """The settings a search method runs with unless it is told otherwise, for its record."""
    return PRESETS[SEARCHES[method]].to_json() if method in SEARCHES else {}
