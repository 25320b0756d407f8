"""`python -m analysis job`: from a model to a page of fronts, in one go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "Examples: python -m analysis job | "
    "python -m analysis job --model ./model --text mine.txt -o out/mine | "
    "python -m analysis job --config job.yaml"
)


def command(
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file: docs/configuration.md.", metavar="FILE")] = None,
    model: Annotated[str | None, typer.Option("--model", help="A folder or a hub name; left out, the embedded model.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="A UTF-8 file; searched on its first half, reported on its second.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="The folder for all of it. [default: out/pareto]")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes. [default: 2]", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Sweep, fronts, export of one assignment, its validation, and the page. Interrupt it anywhere and start it again."""
    from analysis.configuration import read_configuration
    from analysis.errors import AnalysisError
    from analysis.main_job import run
    from dmx.errors import DmxError
    from mxsim.errors import MxsimError

    given = {"model": model, "text": text, "output": output}
    asked = read_configuration(config, {name: value for name, value in given.items() if value is not None})
    if workers is not None:
        asked = asked.model_copy(update={"workers": asked.workers.model_copy(update={"count": workers})})
    try:
        outcome = run(asked, lambda line: print(line, file=sys.stderr, flush=True))
    except (DmxError, MxsimError) as error:
        raise AnalysisError(str(error)) from error
    if as_json:
        told = {"headline": outcome.headline, "page": str(outcome.page), "failed": list(outcome.failed)}
        print(json.dumps({**told, "export": str(outcome.export) if outcome.export else None, "is_valid": outcome.is_valid}, indent=1))
    else:
        print(f"page: {outcome.page.resolve()}")
        print(outcome.headline)
    for line in outcome.failed:
        print(f"analysis: failed: {line}", file=sys.stderr)
    if outcome.failed or outcome.is_valid is False:
        raise typer.Exit(1)
