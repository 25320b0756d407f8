"""The `dmx` command. One module a subcommand, each with a function `command`: parse, call, print.

Data goes to stdout, progress and errors to stderr. Exit status: 0 fine, 2 the call or its input is wrong.
"""

from __future__ import annotations

from typing import Annotated

import typer

from dmx.cli import allocate, evaluate, export, search, sweep
from dmx.errors import DmxError
from mxsim.command_line import run
from mxsim.errors import MxsimError
from mxsim.version import VERSION

app = typer.Typer(
    name="dmx",
    help="The MX format of every layer of a language model: chosen under a budget, measured, exported.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dmx {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """The MX format of every layer of a language model: chosen under a budget, measured, exported."""


for name, module in (("search", search), ("allocate", allocate), ("evaluate", evaluate), ("export", export), ("sweep", sweep)):
    app.command(name, epilog=module.EXAMPLES)(module.command)


def main() -> None:
    """Run the command; bad input is a line on stderr and exit status 2."""
    run(app, "dmx", DmxError, MxsimError)
