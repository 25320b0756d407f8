"""What both subcommands do first and last: read a folder, apart by model and text, and say what could not be used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from analysis.experiments import Experiments, read_experiments
from analysis.records import Problem, Results, choose, part_of, read_results
from analysis.summary import Analysis, analyse


def read(folder: Path, model: str | None, text: str | None) -> list[tuple[Analysis, list[Experiments]]]:
    """An analysis, and its experiments, for each model and text in the folder."""
    chosen = choose(read_results(folder), model=model, text=text)
    if len(chosen) > 1:
        told = ", ".join(f"{part.records[0].model} on {part.records[0].report_text.get('name')}" for part in chosen)
        say(f"{len(chosen)} models or texts in one folder, drawn apart ({told}): --model NAME or --text NAME takes one")
    return [_analysed(folder, part) for part in chosen]


def read_part(folder: Path, keys: Iterable[str]) -> tuple[Analysis, list[Experiments]]:
    """The analysis, and its experiments, of the model and text that the runs of these keys are of, whatever else the folder holds.

    Raises: AnalysisError where no run of these keys finished, or where they are of several models or texts.
    """
    return _analysed(folder, part_of(read_results(folder), keys))


def _analysed(folder: Path, part: Results) -> tuple[Analysis, list[Experiments]]:
    experiments, problems = read_experiments(folder, part.records[0].model)
    return analyse(part.with_problems((*part.problems, *problems))), experiments


def folder_names(analyses: Iterable[Analysis]) -> list[str]:
    """A folder's name for each analysis: the model's; with the text's where models repeat; numbered where both do."""
    listed = list(analyses)
    models = [one.model for one in listed]
    names: list[str] = []
    for one in listed:
        name = (
            re.sub(r"[^A-Za-z0-9._-]+", "-", one.model if models.count(one.model) == 1 else f"{one.model}-{one.text}").strip("-.")
            or "model"
        )
        names.append(f"{name}-{names.count(name) + 1}" if name in names else name)
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
