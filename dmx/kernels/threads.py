"""How many threads the kernels use, set and put back in a fraction of a microsecond: called from Python, numba's own take several."""

from __future__ import annotations

from numba import get_num_threads, njit, set_num_threads


@njit
def exchange_threads(threads: int) -> int:
    """Use so many. Returns: how many it was. Numba's threads must have been started."""
    before = get_num_threads()
    set_num_threads(threads)
    return int(before)
