"""How many threads the kernels use, and what they do before a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import numpy.typing as npt

HUGE_PAGE = 1 << 21  #: bytes


@contextmanager
def one_thread() -> Iterator[None]:
    """Kernels called from this thread use no other: OpenMP's threads, which spin after each call, would hold up what runs beside."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@numba.njit(parallel=True, cache=True)
def map_pages(memory: npt.NDArray[np.uint8]) -> None:
    """Have the system map memory (n,) that was never written: one byte in every huge page is set to 0."""
    for page in numba.prange((memory.size + HUGE_PAGE - 1) // HUGE_PAGE):
        memory[page * HUGE_PAGE] = 0
