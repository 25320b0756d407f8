"""A folder of records read apart by model and text, and what could not be used of it, told."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.experiments import Experiments, read_experiments
from analysis.records import Problem, Results, choose, part_of, read_results
from analysis.summary import Analysis, analyse


def read(folder: Path, model: str | None, text: str | None) -> list[tuple[Analysis, list[Experiments]]]:
    """An analysis, and its experiments, for each model and text in the folder."""
    chosen = choose(read_results(folder), model=model, text=text)
    if len(chosen) > 1:
        say(f"{len(chosen)} models or texts in one folder, drawn apart ({', '.join(map(_part_words, chosen))}): {_hint(chosen)}")
    return [_analysed(folder, part) for part in chosen]


def read_part(folder: Path, keys: Iterable[str]) -> tuple[Analysis, list[Experiments]]:
    """The analysis, and its experiments, of the runs of these keys alone; a note tells how many others the folder holds.

    Raises: AnalysisError where no run of these keys finished, or where they are of several models or texts.
    """
    results = read_results(folder)
    analysis, experiments = _analysed(folder, part_of(results, keys))
    others = len({record.key for record in results.records}) - len({record.key for record in analysis.results.records})
    if others:
        note = f"the folder holds {others} more runs, of other configurations: left out here; python -m analysis report draws all"
        analysis = replace(analysis, notes=(*analysis.notes, note))
    return analysis, experiments


def _analysed(folder: Path, part: Results) -> tuple[Analysis, list[Experiments]]:
    experiments, problems = read_experiments(folder, part.records[0].model)
    return analyse(part.with_problems((*part.problems, *problems))), experiments


def _part_words(part: Results) -> str:
    first = part.records[0]
    return f"{first.model} on {first.report_text.get('name')}, {len(part.records)} runs of {first.quality.get('tokens')} tokens"


def _hint(parts: Sequence[Results]) -> str:
    """How to get one of them alone: by its names, where these tell it from the others."""
    names = [(part.records[0].model, str(part.records[0].report_text.get("name"))) for part in parts]
    models, texts = zip(*names, strict=True)
    options = [option for option, told in (("--model NAME", models), ("--text NAME", texts)) if len(set(told)) > 1]
    told = [f"{' with '.join(options)} takes one"] if options else []
    if len(set(names)) < len(names):
        told.append("those of the same names differ in their bytes or in the windows scored, and only folders of their own part them")
    return "; ".join(told)


def folder_names(analyses: Iterable[Analysis]) -> list[str]:
    """A folder's name for each analysis: the model's; with the text's where models repeat; numbered from 2 where that is taken."""
    listed = list(analyses)
    models = [one.model for one in listed]
    names: list[str] = []
    for one in listed:
        told = one.model if models.count(one.model) == 1 else f"{one.model}-{one.text}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", told).strip("-.") or "model"
        numbered = (f"{name}-{count}" for count in itertools.count(2))
        names.append(name if name not in names else next(other for other in numbered if other not in names))
    return names


def tell(analyses: list[Analysis]) -> None:
    """Notes and problems, on stderr."""
    for one in analyses:
        for note in one.notes:
            say(note if len(analyses) == 1 else f"{one.model}: {note}")
    tell_problems(analyses[0].problems)


def tell_problems(problems: tuple[Problem, ...], most: int = 10) -> None:
    for problem in problems[:most]:
        say(str(problem))
    if len(problems) > most:
        say(f"and {len(problems) - most} more files that could not be used")


def say(line: str) -> None:
    print(f"analysis: {line}", file=sys.stderr)
