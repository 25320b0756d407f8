"""Chunks in which every multiplication or addition rounds: chains of FMAs, pairwise trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from mxsim.kernels.units.parameters import Round
from mxsim.kernels.units.rounding import narrowed, sum_to_odd

Values = npt.NDArray[np.float64]


@njit
def fma_chains(a: Values, b: Values, i: int, j: int, first: int, length: int, chains: int, c: float, to: Round) -> Any:
    """One chain from C; or two that take the products in turn, from +0 each (C is added late), and their sum."""
    even, odd = c, 0.0
    if chains == 1:
        for k in range(first, first + length):
            even = narrowed(sum_to_odd(a[i, k] * b[j, k], even), to)
        return even
    for k in range(first, first + length - 1, 2):
        even = narrowed(sum_to_odd(a[i, k] * b[j, k], even), to)
        odd = narrowed(sum_to_odd(a[i, k + 1] * b[j, k + 1], odd), to)
    if length % 2:
        even = narrowed(sum_to_odd(a[i, first + length - 1] * b[j, first + length - 1], even), to)
    return narrowed(sum_to_odd(even, odd), to)


@njit
def pairwise(a: Values, b: Values, i: int, j: int, first: int, length: int, to: Round, tree: Values) -> Any:
    """Products rounded, then added two by two, a power of two of them; C is added late."""
    for k in range(length):
        tree[k] = narrowed(a[i, first + k] * b[j, first + k], to)
    while length > 1:
        length //= 2
        for k in range(length):
            tree[k] = narrowed(sum_to_odd(tree[2 * k], tree[2 * k + 1]), to)
    return tree[0]
