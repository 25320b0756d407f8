"""`python -m analysis pareto`: fronts, hypervolume and dominance as csv, svg and png."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "Examples: python -m analysis pareto out/sweep -o out/fronts | "
    "python -m analysis pareto out/sweep -o out/fronts --model stories260K --json"
)


def command(
    folder: Annotated[Path, typer.Argument(help="What dmx sweep -o wrote.", metavar="DIR")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where tables and figures go; made when missing.", metavar="OUT")],
    model: Annotated[str | None, typer.Option("--model", help="Only this model's runs, where a folder holds several.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Only runs evaluated on this text.")] = None,
    tables_only: Annotated[bool, typer.Option("--tables-only", help="Write no figures.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a record is unreadable or its run failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Draw fronts of perplexity, KL and task accuracy against bits, bytes, energy and latency, and write every table behind them."""
    from analysis.figures import remove_earlier, write_figures, write_tables
    from analysis.reading import folder_names, read, say, tell
    from analysis.summary import sentences, to_json

    found = read(folder, model, text)
    analyses = [analysis for analysis, _ in found]
    contents = []
    if len(found) > 1 and output.is_dir():
        remove_earlier(output)
    for (analysis, experiments), name in zip(found, folder_names(analyses), strict=True):
        target = output if len(found) == 1 else output / name
        written = [path.name for path in write_tables(analysis, target)]
        if not tables_only:
            for figure in write_figures(analysis, experiments, target):
                written += [f"{figure}.svg", f"{figure}.png"]
                say(f"{target / figure}.svg, .png")
        contents.append({**to_json(analysis), "folder": str(target), "files": written})
        if not as_json:
            print(f"{analysis.model}, {analysis.text}: {analysis.headline}")
            for sentence in sentences(analysis):
                print(sentence)
            print(f"{len(written)} files in {target}")
    if as_json:
        print(json.dumps(contents[0] if len(contents) == 1 else {"models": contents}, indent=1))
    tell(analyses)
    if strict and any(analysis.problems for analysis in analyses):
        raise typer.Exit(1)
