"""Philox4x32-10, the counter-based random numbers of stochastic rounding.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A value depends on its counter and key alone, so neither the
number of threads nor the order of the work can change it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ROUNDS = 10


@njit(cache=True)
def philox_word(index: int, seed: int) -> Any:
    """The random 32-bit word of element `index` under a 64-bit `seed`, both uint64.

    Word index % 4 of the block with counter (low32(index // 4), high32(index // 4), 0, 0) and key (low32(seed), high32(seed)).
    """
    block = index >> np.uint64(2)
    x0, x1, x2, x3 = block & LOW, block >> HALF, np.uint64(0), np.uint64(0)
    k0, k1 = seed & LOW, seed >> HALF
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIER_0 * x0, MULTIPLIER_1 * x2
        x0, x1, x2, x3 = (p1 >> HALF) ^ x1 ^ k0, p1 & LOW, (p0 >> HALF) ^ x3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    word = index & np.uint64(3)
    return x0 if word == 0 else x1 if word == 1 else x2 if word == 2 else x3
