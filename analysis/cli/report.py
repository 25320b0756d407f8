"""`python -m analysis report`: one self-contained HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "Examples: python -m analysis report out/sweep -o out/report | "
    "python -m analysis report out/sweep -o front.html --model stories260K --json"
)


def command(
    folder: Annotated[Path, typer.Argument(help="What dmx sweep -o wrote.", metavar="DIR")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page, where it ends in .html; else a folder that takes index.html.", metavar="OUT")
    ],
    model: Annotated[str | None, typer.Option("--model", help="Only this model's runs, where a folder holds several.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Only runs evaluated on this text.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a record is unreadable or its run failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write the page: summary, fronts, tables, the chosen assignments with downloads, format maps, costs and provenance."""
    from analysis.page import write_page
    from analysis.reading import folder_names, read, tell
    from analysis.summary import to_json

    found = read(folder, model, text)
    analyses = [analysis for analysis, _ in found]
    contents = []
    for (analysis, experiments), name in zip(found, folder_names(analyses), strict=True):
        target = output if output.suffix == ".html" else output / "index.html"
        if len(found) > 1:
            target = target.with_name(f"{target.stem}-{name}.html") if output.suffix == ".html" else output / name / "index.html"
        write_page(analysis, experiments, target)
        contents.append({**to_json(analysis), "page": str(target)})
        if not as_json:
            print(f"{analysis.model}, {analysis.text}: {analysis.headline}")
            print(target)
    if as_json:
        print(json.dumps(contents[0] if len(contents) == 1 else {"models": contents}, indent=1))
    tell(analyses)
    if strict and any(analysis.problems for analysis in analyses):
        raise typer.Exit(1)
