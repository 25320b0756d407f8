"""Files that are written whole or not at all; what goes wrong is told in the package's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.errors import AnalysisError
from mxsim.errors import MxsimError
from mxsim.files import renamed_when_whole


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end; what stood there stays if anything goes wrong.

    Raises: AnalysisError where it cannot be written.
    """
    try:
        with renamed_when_whole(path) as part:
            yield part
    except MxsimError as error:
        raise AnalysisError(f"{str(path)!r} cannot be written: {error}; give another place with -o") from error
    except OSError as error:
        raise AnalysisError(f"{str(path)!r} cannot be written: {error.strerror or error}; give another place with -o") from error
