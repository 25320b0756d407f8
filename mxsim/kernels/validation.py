"""Stored blocks against what a policy makes of the float weights, without writing the codes down.

Only whole blocks in the common packing are compared here, and only whether they differ: what differs is looked at elsewhere, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import float_bits
from mxsim.kernels.conversion import ABS, chunk_to_codes
from mxsim.kernels.gather import widened
from mxsim.kernels.parameters import BlockScaling, ElementGrid
from mxsim.kernels.rounding import EXPONENT

CHUNK = 256  #: blocks to one unit of parallel work: their float32 copies stay in the first caches
SCALE_DIFFERS, ELEMENTS_DIFFER = np.uint8(1), np.uint8(2)

Bytes = npt.NDArray[np.uint8]


@njit(inline="always")
def elements_differ(codes: Bytes, stored: Bytes, b: int, at: int, bits: int) -> bool:
    """Whether block b's codes, packed, are not the bytes of row `at`."""
    differing = np.uint8(0)
    if bits == 8:
        for k in range(codes.shape[1]):
            differing |= codes[b, k] ^ stored[at, k]
    elif bits == 4:
        for k in range(stored.shape[1]):
            differing |= np.uint8(codes[b, 2 * k] | (codes[b, 2 * k + 1] << 4)) ^ stored[at, k]
    else:
        for k in range(stored.shape[1] // 3):
            word = np.uint32(codes[b, 4 * k]) | np.uint32(codes[b, 4 * k + 1]) << 6
            word |= np.uint32(codes[b, 4 * k + 2]) << 12 | np.uint32(codes[b, 4 * k + 3]) << 18
            found = np.uint32(stored[at, 3 * k]) | np.uint32(stored[at, 3 * k + 1]) << 8 | np.uint32(stored[at, 3 * k + 2]) << 16
            differing |= np.uint8(word != found)
    return bool(differing != 0)


@njit(parallel=True, cache=True)
def compare_blocks(
    x: npt.NDArray[Any], elements: Bytes, scales: Bytes, differs: Bytes, grid: ElementGrid, scaling: BlockScaling, rounding: int, bits: int
) -> None:
    """x (n, B) of float32, uint16 (bfloat16) or int16 (float16) against stored bytes.

    elements: (n, B * bits / 8), packed as mxsim.packing has it. scales: (n,). differs: (n,), set to the sum of SCALE_DIFFERS and
    ELEMENTS_DIFFER. rounding: any but STOCHASTIC.
    """
    for chunk in prange((x.shape[0] + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        xs = x[first : first + CHUNK]
        wide = np.empty(xs.shape, np.float32)
        codes, made_scales = np.empty(xs.shape, np.uint8), np.empty(xs.shape[0], np.uint8)
        for b in range(xs.shape[0]):
            for k in range(xs.shape[1]):
                wide[b, k] = widened(xs[b, k])
        # No rounding here draws random numbers, so that the place of blocks does not matter.
        chunk_to_codes(
            wide, codes, made_scales, grid, scaling, rounding, np.uint64(0), (first, np.zeros(1, np.int64), x.shape[0], x.shape[1])
        )
        for b in range(xs.shape[0]):
            found = SCALE_DIFFERS if made_scales[b] != scales[first + b] else np.uint8(0)
            if elements_differ(codes, elements, b, first + b, bits):
                found |= ELEMENTS_DIFFER
            differs[first + b] = found


@njit(parallel=True, cache=True)
def largest_bits(x: npt.NDArray[Any], finite_only: bool) -> Any:
    """Float32 bits of the largest magnitude in x (n, K), stored as above; Inf and NaN left out or not."""
    largest = np.zeros(x.shape[0], np.int32)
    for row in prange(x.shape[0]):
        found = np.int32(0)
        for k in range(x.shape[1]):
            bits = np.int32(float_bits(widened(x[row, k])) & ABS)
            found = max(found, np.int32(0) if finite_only and bits >= EXPONENT else bits)
        largest[row] = found
    return largest.max() if x.shape[0] else np.int32(0)
