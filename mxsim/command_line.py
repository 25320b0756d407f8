"""How every command of the project runs and ends."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable


def run(app: Callable[[], object], name: str, *errors: type[Exception]) -> None:
    """Run a command; bad input is a line on stderr and exit status 2, a reader of stdout who has gone away is nothing wrong.

    Args: name: the command's.  errors: what it raises for bad input, in words for its user.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # tensors may be named in letters that the terminal lacks
    try:
        try:
            app()
        except SystemExit as end:
            if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # typer's word for a closed stdout
                raise BrokenPipeError from end
            if sys.stdout is not None:
                sys.stdout.flush()
            raise
    except errors as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        _drop_output()
        sys.exit(0)
    except OSError as error:  # a full disk, a file that may not be read
        print(f"{name}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        _drop_output()
        sys.exit(2)


def _drop_output() -> None:
    """Let what stdout still holds go nowhere, as the interpreter would try to write it once more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
