"""The main job: sweep, fronts, export of one assignment, validation of that export, page. Interrupt it anywhere and start it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.configuration import Configuration, Export
from analysis.errors import AnalysisError

CHECKPOINT = "checkpoint"  #: the folder of the export, in that of the job
MARK = "manifest.json"  #: of a checkpoint that an earlier run of the job wrote: only such a folder is replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the job came to."""

    headline: str
    page: Path
    failed: tuple[str, ...]  #: runs that failed, and the export where it did, each with its error
    export: Path | None
    is_valid: bool | None  #: of the export; None without one


def run(asked: Configuration, say: Callable[[str], None]) -> Outcome:
    """Do it. Args: say: told each step as it begins.  Raises: AnalysisError, or dmx's and mxsim's errors for what they are given."""
    from analysis.cli.reading import read
    from analysis.figures import write_figures, write_tables
    from analysis.page import write_page
    from analysis.records import Problem
    from dmx.errors import DmxError
    from dmx.sweep import records_of, run_sweep
    from mxsim.errors import MxsimError

    top = Path(asked.output)
    sweep = sweep_of(asked)
    check_export(asked)
    say(f"1 of 4: {len(sweep.methods)} methods at {len(sweep.budgets)} budgets, their quality and their cost on {sweep.scenario.device}")
    done = run_sweep(sweep, top, workers=asked.workers.count, engine_name=asked.workers.engine, address=asked.workers.address)
    records = records_of(sweep, top)
    name, sha256 = next(((r["specification"]["model"]["name"], r["specification"]["model"]["sha256"]) for r in records), ("", ""))
    if not sha256:
        raise AnalysisError(f"no run finished; the first error: {done['failed'][0] if done['failed'] else 'none told'}")
    failed, refused = list(done["failed"]), []
    folder, is_valid = None, None
    if asked.export is not None:
        say(f"2 of 4: export to {asked.export.target}, and validation of every bit")
        try:
            folder, is_valid = export_one(asked, asked.export, records, top, say)
        except (AnalysisError, DmxError, MxsimError) as error:
            refused.append(Problem(kind="failed", path=top / CHECKPOINT, reason=str(error)))
            failed.append(f"export of {asked.export.method}: {error}")
            say(f"  failed: {error}")
    say("3 of 4: fronts")
    fronts = top / "fronts"
    analysis, experiments = read(top, name, None)[-1]
    analysis = replace(analysis, results=analysis.results.with_problems((*refused, *analysis.problems)))
    write_tables(analysis, fronts)
    for figure in write_figures(analysis, experiments, fronts):
        say(f"  {fronts / figure}.svg, .png")
    say("4 of 4: page")
    page = top / "index.html"
    write_page(analysis, experiments, page)
    return Outcome(headline=analysis.headline, page=page, failed=tuple(failed), export=folder, is_valid=is_valid)


def sweep_of(asked: Configuration) -> Any:
    """The sweep that a configuration describes."""
    from dmx.budget import Scenario
    from dmx.search_config import SearchConfig
    from dmx.sweep import Sweep

    SearchConfig().with_settings(asked.search)  # a setting that there is not is refused before anything runs
    where = asked.hardware
    if where.scenario:
        scenario = Scenario.parse(where.scenario, device=where.device, assume=where.assume, kv_format=where.kv_format)
    else:
        assume = where.assume if where.device is not None else ()
        scenario = Scenario.of_step(where.phase, where.batch, where.context, device=where.device, assume=assume, kv_format=where.kv_format)
    return Sweep(
        model=asked.model,
        budgets=tuple(asked.budgets),
        methods=tuple(asked.methods),
        seeds=tuple(asked.seeds),
        formats=tuple(asked.formats),
        references=tuple(asked.references),
        policy=asked.policy,
        tie=asked.tie,
        apart=asked.apart,
        scenario=scenario,
        search_text=asked.text,
        report_text=asked.report_text,
        tokens=asked.tokens,
        context=asked.window,
        report_windows=asked.report_windows,
        tasks=tuple(asked.tasks),
        task_limit=asked.task_limit,
        search=dict(asked.search),
    )


def check_export(asked: Configuration) -> None:
    """Raises: AnalysisError, or MxsimError for an unknown unit, where it is known before anything runs that the export cannot be made."""
    from mxsim.formats import FORMATS
    from mxsim.golden import golden_refusals

    wanted = asked.export
    if wanted is None:
        return
    if wanted.method not in asked.methods:
        methods = ", ".join(asked.methods)
        raise AnalysisError(
            f"export.method {wanted.method!r} is none of the job's methods ({methods}): name one of these, add it, or say `export: null`"
        )
    if not wanted.golden:
        return
    pairs = {f"{w} weights, {a} inputs": (w, a) for w in asked.formats if w in FORMATS for a in asked.formats if asked.apart or w == a}
    refused = golden_refusals(pairs, wanted.unit)
    if refused and len(refused) == len(pairs):
        raise AnalysisError(
            f"export.unit {wanted.unit!r} computes golden outputs of no two of the job's formats: name another unit (mx_exact takes any "
            f"two formats of one block size), or say `golden: 0`; the first is {refused[0]}"
        )


def export_one(
    asked: Configuration, wanted: Export, records: list[dict[str, Any]], top: Path, say: Callable[[str], None]
) -> tuple[Path, bool]:
    """Export the assignment nearest to the budget asked for, and validate it against the float weights where they lie in a folder.

    Raises: AnalysisError where no run of the method finished, or dmx's and mxsim's errors where the export is refused.
    """
    from dmx.exporters import export
    from mxsim.assignment import Assignment
    from mxsim.validation import validate

    found = [r for r in records if r["specification"]["method"] == wanted.method and r["assignment"] and r["specification"]["budget"]]
    if not found:
        raise AnalysisError(f"no run of {wanted.method} finished: there is nothing to export")
    record = min(found, key=lambda r: _distance(r, wanted.bits))
    assignment = Assignment.from_json(record["assignment"])
    assignment.save(top)
    folder = top / CHECKPOINT
    if (folder / MARK).is_file():
        shutil.rmtree(folder)
    unit = wanted.unit if wanted.golden else None
    export(asked.model, assignment, wanted.target, folder, golden=wanted.golden, unit=unit)
    reference = Path(asked.model) if asked.model is not None and Path(asked.model).is_dir() else None
    report = validate(folder, reference)
    proven = sum(verdict.status == "proven" for verdict in report.tensors)
    budget = record["specification"]["budget"]["text"]
    say(f"  {folder}: {wanted.method} {budget}, {proven} of {len(report.tensors)} tensors proven, {'valid' if report.ok else 'NOT VALID'}")
    return folder, report.ok


def _distance(record: dict[str, Any], bits: float) -> tuple[bool, float, int]:
    budget = record["specification"]["budget"]
    is_bits = budget["kind"] == "bits" and not budget["is_share"]
    return (not is_bits, abs(budget["amount"] - bits) if is_bits else 0.0, record["specification"]["seed"])
