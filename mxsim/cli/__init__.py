"""The `mxsim` command. One module a subcommand, each with a function `command`: parse, call, print.

Data goes to stdout, progress and errors to stderr. Exit status: 0 fine, 1 a check failed, 2 the call or its input is wrong.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mxsim.cli import compare, cost, formats, hardware, matmul, quantize, units, validate
from mxsim.command_line import run
from mxsim.errors import MxsimError
from mxsim.version import VERSION

app = typer.Typer(
    name="mxsim",
    help="Bit-exact Microscaling (MX) formats, matrix units and costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mxsim {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Bit-exact Microscaling (MX) formats, matrix units and costs."""


for name, module in (
    ("formats", formats),
    ("hardware", hardware),
    ("quantize", quantize),
    ("cost", cost),
    ("validate", validate),
    ("compare", compare),
    ("units", units),
    ("matmul", matmul),
):
    app.command(name, epilog=module.EXAMPLES)(module.command)


def main() -> None:
    """Run the command; bad input is a line on stderr and exit status 2."""
    run(app, "mxsim", MxsimError)
