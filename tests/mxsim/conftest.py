"""One thread for small arrays: waking a second costs more than their work, and results never depend on the number."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """test_thread_count_changes_nothing and the exhaustive tests set their own number."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)
