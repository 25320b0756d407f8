"""The main job: sweep, fronts, export of one assignment, validation of that export, page. Interrupt it anywhere and start it again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from analysis.configuration import Configuration, Export
from analysis.errors import AnalysisError
from analysis.reading import read_part
from analysis.records import Problem
from analysis.scenarios import budget_amount
from mxsim.storage_formats import WIDE_PAIR, FormatPair

CHECKPOINT = "checkpoint"  #: the folder of the export, in that of the job
PAGE = "index.html"
PRODUCER = "dmx "  #: how the manifest of an export begins to name who wrote it
PAGE_MARK = b'<meta name="generator" content="mxsim '  #: within the first bytes of a page of ours
PAGE_HEAD = 1000  #: bytes


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
    from analysis.figures import write_figures, write_tables
    from analysis.page import write_page
    from dmx.errors import DmxError
    from dmx.sweep import records_of, run_sweep
    from mxsim.errors import MxsimError

    top = Path(asked.output)
    sweep = sweep_of(asked)
    check_export(asked)
    check_folder(asked)
    say(f"1 of 4: {len(sweep.methods)} methods at {len(sweep.budgets)} budgets, their quality and their cost on {sweep.scenario.device}")
    done = run_sweep(sweep, top, workers=asked.workers.count, engine_name=asked.workers.engine, address=asked.workers.address)
    records = records_of(sweep, top)
    if not records:
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
    analysis, experiments = read_part(top, [record["key"] for record in records])
    analysis = replace(analysis, results=analysis.results.with_problems((*refused, *analysis.problems)))
    write_tables(analysis, fronts)
    for figure in write_figures(analysis, experiments, fronts):
        say(f"  {fronts / figure}.svg, .png")
    say("4 of 4: page")
    page = top / PAGE
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
    _check_target(asked, wanted)
    if not wanted.golden:
        return
    pairs = {f"{w} weights, {a} inputs": (w, a) for w in asked.formats if w in FORMATS for a in asked.formats if asked.apart or w == a}
    refused = golden_refusals(pairs, wanted.unit)
    if refused and len(refused) == len(pairs):
        raise AnalysisError(
            f"export.unit {wanted.unit!r} computes golden outputs of no two of the job's formats: name another unit (mx_exact takes any "
            f"two formats of one block size), or say `golden: 0`; the first is {refused[0]}"
        )


def _check_target(asked: Configuration, wanted: Export) -> None:
    """AnalysisError where the layout holds no two pairs of formats that the method could mix, or of method uniform no pair."""
    pairs = [FormatPair(w, a) for w in asked.formats for a in asked.formats if asked.apart or w == a]
    mixes = list(combinations(pairs, 1 if wanted.method == "uniform" or len(pairs) == 1 else 2))
    if not any(_holds(wanted.target, mix, asked.policy) for mix in mixes):
        chosen = "one pair of formats for all layers" if len(mixes[0]) == 1 else "pairs of formats layer by layer"
        raise AnalysisError(
            f"export.target {wanted.target!r} cannot hold what export.method {wanted.method!r} chooses from {', '.join(asked.formats)}, "
            f"{chosen}: name another target (mxsim holds every block format), export method uniform, or take other formats"
        )


def _holds(target: str, pairs: Iterable[FormatPair], policy: str) -> bool:
    """Whether a layout can hold a model whose layers have these pairs."""
    from dmx.exporters import TARGETS
    from dmx.exporters.layer import Layer
    from mxsim.formats import FORMATS

    quantised = [pair for pair in pairs if pair != WIDE_PAIR]
    layers = {str(pair): Layer(name=str(pair), weight=pair.weight, activation=pair.activation, shape=(1, 1024)) for pair in quantised}
    return bool(layers) and all(one.weight in FORMATS for one in layers.values()) and not TARGETS[target].refusals(layers, policy)


def check_folder(asked: Configuration) -> None:
    """Raises: AnalysisError where the job would write over what no job wrote: a page, or a folder in the place of the export."""
    top = Path(asked.output)
    page = top / PAGE
    if page.exists() and not (page.is_file() and PAGE_MARK in _head(page)):
        raise AnalysisError(f"{page} is no page of ours, and the job would write over it: move it, or name another output folder")
    folder = top / CHECKPOINT
    if asked.export is not None and (why := _foreign(folder)):
        raise AnalysisError(f"{folder} {why}, and the job would put its export in that place: move it, or name another output folder")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PAGE_HEAD)


def _foreign(folder: Path) -> str:
    """Why a folder is not to be replaced; "" where there is none, or an empty one, or an export of ours with nothing beside it."""
    from mxsim.errors import MxsimError
    from mxsim.manifest import MANIFEST, read_manifest

    if folder.is_symlink():
        return "is a link"
    if folder.exists() and not folder.is_dir():
        return "is no folder"
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if not names:
        return ""
    try:
        manifest = read_manifest(folder)
    except MxsimError as error:
        return f"is no export of ours ({error})"
    if manifest is None or not manifest.producer.startswith(PRODUCER):
        return "is no export of ours"
    more = sorted(names - {MANIFEST, *manifest.files})
    return f"holds {more[0]!r}, which its export did not write" if more else ""


def export_one(
    asked: Configuration, wanted: Export, records: list[dict[str, Any]], top: Path, say: Callable[[str], None]
) -> tuple[Path, bool]:
    """Export the assignment nearest to the budget asked for, and validate it against the float weights where they lie in a folder.

    It is made beside an earlier export, which it replaces when it is whole.
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
    folder = top / CHECKPOINT
    unit = wanted.unit if wanted.golden else None
    reference = Path(asked.model) if asked.model is not None and Path(asked.model).is_dir() else None
    with tempfile.TemporaryDirectory(prefix=f".{CHECKPOINT}.", dir=top) as beside:
        new = export(asked.model, assignment, wanted.target, Path(beside) / "new", golden=wanted.golden, unit=unit)
        report = validate(new, reference)
        if folder.exists():
            os.replace(folder, Path(beside) / "old")
        os.replace(new, folder)
    assignment.save(top)
    proven = sum(verdict.status == "proven" for verdict in report.tensors)
    budget = record["specification"]["budget"]["text"]
    say(f"  {folder}: {wanted.method} {budget}, {proven} of {len(report.tensors)} tensors proven, {'valid' if report.ok else 'NOT VALID'}")
    return folder, report.ok


def _distance(record: dict[str, Any], bits: float) -> tuple[bool, float, int]:
    budget = record["specification"]["budget"]
    is_bits = budget["kind"] == "bits"
    return (not is_bits, abs(budget_amount(budget) - bits) if is_bits else 0.0, record["specification"]["seed"])
