"""Many runs: every method at every budget and seed, each once. What is done is never done again, and what fails does not stop the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dmx.allocators import METHODS
from dmx.budget import Budget, Scenario, check_scenario, constraints
from dmx.decisions import decision_space
from dmx.engines import engine
from dmx.errors import DmxError
from dmx.files import made_folder
from dmx.models import load_model
from dmx.quantisers import checked_formats
from dmx.records import DONE, Run, code_sha256, is_done, read_record, record_path, write_record
from dmx.running import SEARCHES, default_settings, report_tokens, search_tokens
from dmx.search_config import check_seed, preset
from dmx.task_files import read_task, task_sha256
from dmx.tasks import read_tasks
from mxsim.errors import unknown_name
from mxsim.files import renamed_when_whole
from mxsim.version import VERSION

ALL_METHODS = (*METHODS, *SEARCHES)
#: method -> the scores it measures, which serve every budget and every method that takes the same
SCORES = {"kl": "kl", "kl_per_bit": "kl", "first_order": "first_order", "fisher": "fisher"}
#: Methods that draw nothing at random: one seed says all.
UNSEEDED = ("uniform", "first_last")
#: Settings of a search that a sweep gives to every method alike.
OWN_SETTINGS = ("formats", "policy", "tie", "apart", "seed", "context", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What is asked for."""

    model: str | None = None  #: a folder or hub name; None is the embedded model
    budgets: tuple[str, ...] = ("bits=4.5", "bits=5", "bits=5.5", "bits=6", "bits=7")
    methods: tuple[str, ...] = ("uniform", "first_last", "kl", "kl_per_bit", "first_order", "fisher", "dmx")
    seeds: tuple[int, ...] = (0,)
    formats: tuple[str, ...] = ("mxfp4_e2m1", "mxfp8_e4m3")
    references: tuple[str, ...] = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")  #: uniform formats to draw beside the fronts
    policy: str = "ocp"
    tie: bool = False
    apart: bool = True  #: every method may choose weight and input formats apart; False: none may
    scenario: Scenario = field(default_factory=Scenario)
    search_text: str | None = None
    report_text: str | None = None  #: the search text's second half when None and the search's is a file
    tokens: int = 32768  #: that searches and scores look at
    context: int | None = None
    report_windows: int | None = None
    tasks: tuple[str, ...] = ()
    task_limit: int | None = None
    search: dict[str, Any] = field(default_factory=dict)  #: settings of the searches

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in ALL_METHODS:
                raise unknown_name("method", method, ALL_METHODS)
        checked_formats(self.formats)
        for name in self.references:
            checked_formats((name,))
        if not self.budgets or not self.methods or not self.seeds:
            raise DmxError("a sweep needs at least one budget, one method and one seed")
        for text in self.budgets:
            Budget.parse(text, self.scenario)
        for setting in self.search:
            if setting in OWN_SETTINGS:
                raise DmxError(f"{setting} is a setting of the whole sweep: leave it out of those of the searches (--set)")
        asked = {**self.search, "tokens": self.tokens, "context": self.context, "policy": self.policy, "formats": self.formats}
        for name in {"default", *(SEARCHES[method] for method in self.methods if method in SEARCHES)}:
            preset(name).with_settings(asked)
        for seed in self.seeds:
            check_seed(seed)
        if self.task_limit is not None and self.task_limit < 1:
            raise DmxError(f"a limit of {self.task_limit} questions leaves none: ask for 1 or more")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "scenario": self.scenario.to_json()}


def runs_of(sweep: Sweep) -> list[Run]:
    """The runs of a sweep, references first, each resolved to hashes of what goes in.

    Raises: DmxError for a budget that no choice meets, before anything is run.
    """
    model = load_model(sweep.model)
    if sweep.search_text is None and model.source != "embedded":
        raise DmxError(f"a sweep on {model.name!r} needs text to look at: pass --text FILE; only the embedded model brings its own")
    tasks, _ = read_tasks(sweep.tasks, sweep.task_limit)
    halves = sweep.search_text is not None and sweep.report_text is None
    places: dict[str, str | None] = {
        "model": None if sweep.model is None else str(sweep.model),
        "search_text": sweep.search_text,
        "report_text": sweep.search_text if halves else sweep.report_text,
    }
    settings: dict[str, Any] = {
        "context": min(model.context, 512) if sweep.context is None else sweep.context,
        "tokens": sweep.tokens,
        "search_part": "first" if halves else "all",
        "report_part": "second" if halves else "all",
        "report_windows": sweep.report_windows,
        "tasks": {name: None if path is None else _contents(path, sweep.task_limit) for name, path in tasks.items()},
        "task_limit": sweep.task_limit,
        "scenario": sweep.scenario.to_json(),
        "device_sha256": sweep.scenario.device_sha256,
    }
    places |= {f"task:{name}": str(path) for name, path in tasks.items() if path is not None}
    space = decision_space(model, sweep.formats, tie=sweep.tie, apart=sweep.apart)
    check_scenario(sweep.scenario, space, model.shape)
    budgets = [Budget.parse(text, sweep.scenario) for text in sweep.budgets]
    constraints(budgets, space, model.shape)
    base = {
        "model": {
            "name": model.name,
            "source": model.source,
            "sha256": model.sha256,
            "config_sha256": model.config_sha256,
            "stored_sha256": model.stored_sha256,
        },
        "policy": sweep.policy,
        "code": {"version": VERSION, "sha256": code_sha256()},
    }
    probe = Run(specification={**base, "settings": settings}, places=places)
    texts = {"search": search_tokens(probe).identity, "report": report_tokens(probe).identity}

    def run(method: str, formats: Sequence[str], budget: Budget | None, seed: int) -> Run:
        chosen = default_settings(method) | sweep.search
        own = {name: value for name, value in chosen.items() if name not in OWN_SETTINGS} | {"tokens": sweep.tokens}
        return Run(
            specification={
                **base,
                "method": method,
                "formats": list(formats),
                "tie": sweep.tie,
                "apart": sweep.apart and method != "dmx_paper",
                "budget": budget.to_json() if budget else None,
                "seed": seed,
                "text": texts,
                "settings": {**settings, "search": own} if method in SEARCHES else settings,
            },
            places=places,
        )

    found = [run("float", (), None, 0)]
    found += [run("uniform", (name,), None, 0) for name in sweep.references]
    for seed in sweep.seeds:
        for budget in budgets:
            found += [
                run(method, sweep.formats, budget, seed) for method in sweep.methods if not (method in UNSEEDED and seed != sweep.seeds[0])
            ]
    return _scores_first(list({one.key: one for one in found}.values()))  # what was asked for twice is one run


def _scores_first(runs: list[Run]) -> list[Run]:
    """The same runs, those at the end that find their scores in the cache: begun side by side, two would measure the same scores."""
    measured: set[tuple[str, int]] = set()
    begun: list[Run] = []
    later: list[Run] = []
    for run in runs:
        method = run.specification["method"]
        scores = (SCORES.get(method, ""), run.specification["seed"])
        (later if scores in measured else begun).append(run)
        if method in SCORES:
            measured.add(scores)
    return begun + later


def _contents(task: Path, limit: int | None) -> str:
    """SHA-256 of a task's file, once its questions are known to be readable."""
    read_task(task, limit)
    return task_sha256(task)


def run_sweep(
    sweep: Sweep, folder: str | Path, *, workers: int = 1, engine_name: str = "local", address: str | None = None, progress: bool = True
) -> dict[str, Any]:
    """Do what of a sweep is not done yet.

    Args: folder: records go to folder/records.  workers: processes (local), among which the machine's threads are split.
        engine_name: "local" or "ray".  address: of a Ray cluster; None starts one here.
    Returns: {"runs", "done_before", "done", "failed", "seconds"}.
    """
    started = time.perf_counter()
    chosen = engine(engine_name, workers=workers, address=address)  # first: where it is not installed, nothing is done
    top = made_folder(Path(folder))
    runs = runs_of(sweep)
    with renamed_when_whole(top / "sweep.json") as part:
        part.write_text(json.dumps(sweep.to_json(), indent=1) + "\n", encoding="utf-8")
    waiting = [run for run in runs if not is_done(top, run.key)]
    failed, best = [], ""
    lowest = float("inf")
    left = [run.label for run in waiting]
    bar = tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="sweep", unit="run", disable=not progress)

    def tell() -> None:
        """What runs now, as far as that is known here, and the best so far."""
        now = f"now {', '.join(left[:workers])}" if left and engine_name == "local" else f"{len(left)} left"
        bar.set_postfix_str(f"{now}; lowest perplexity {best}" if best else now)

    tell()
    for run, record in chosen.do(waiting, top, progress=progress):
        write_record(top, record)
        left.remove(run.label)
        bar.update()
        if record["status"] != DONE:
            failed.append(f"{run.label}: {record['error']['message']}")
            bar.write(f"failed: {failed[-1]}")
        elif record["specification"]["budget"] and record["quality"]["perplexity"] < lowest:
            lowest = record["quality"]["perplexity"]
            best = f"{run.label}: {lowest:.4g}"
        tell()
    bar.close()
    return {
        "runs": len(runs),
        "done_before": len(runs) - len(waiting),
        "done": len(waiting) - len(failed),
        "failed": failed,
        "seconds": time.perf_counter() - started,
    }


def records_of(sweep: Sweep, folder: str | Path) -> list[dict[str, Any]]:
    """The records of a sweep that are there."""
    top = Path(folder)
    return [read_record(record_path(top, run.key)) for run in runs_of(sweep) if is_done(top, run.key)]
