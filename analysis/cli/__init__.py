"""`python -m analysis`. One module a subcommand, each with a function `command`: parse, call, print.

Data goes to stdout, progress and notes to stderr. Exit status: 0 drawn; 1 nothing to draw, or --strict and a run failed; 2 the call or its
input is wrong.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from analysis.cli import job, pareto, report
from analysis.errors import AnalysisError, NothingToDrawError
from mxsim.command_line import run
from mxsim.version import VERSION

app = typer.Typer(
    name="python -m analysis",
    help="Pareto fronts and reports from what dmx sweep wrote.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mxsim analysis {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Pareto fronts and reports from what dmx sweep wrote."""


for name, module in (("job", job), ("pareto", pareto), ("report", report)):
    app.command(name, epilog=module.EXAMPLES)(module.command)


def main() -> None:
    """Run the command; bad input is a line on stderr and exit status 2, nothing to draw status 1."""
    run(_draw, "analysis", AnalysisError)


def _draw() -> None:
    try:
        app()
    except NothingToDrawError as error:
        print(f"analysis: {error}", file=sys.stderr)
        sys.exit(1)
