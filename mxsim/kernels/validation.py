"""Stored blocks against what a policy makes of the float weights, without writing the codes down.

Only whole blocks in the common packing are compared here, and only whether they differ: what differs is looked at elsewhere, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import float_bits, shift_right
from mxsim.kernels.conversion import (
    ABS,
    EXPONENT,
    amax_bits,
    clamped,
    code_of,
    element_code,
    quantum_of,
    resteps,
    scale_row,
    steps,
)
from mxsim.kernels.gather import widened
from mxsim.kernels.parameters import KEEP, MINUS, NEAREST_AWAY, NEAREST_EVEN, NEAREST_ZERO, TOWARD_ZERO, BlockScaling, ElementGrid

CHUNK = 256  #: blocks to one unit of parallel work: their float32 copies stay in the first caches
SCALE_DIFFERS, ELEMENTS_DIFFER = np.uint8(1), np.uint8(2)

Bytes = npt.NDArray[np.uint8]


@njit(inline="always")
def policy_codes(
    x: npt.NDArray[np.float32], codes: Bytes, b: int, factor: np.float32, multiply: bool, rounding: int, grid: ElementGrid
) -> None:
    """The codes of a finite block b in one loop without branches, signs of zeros included. multiply and rounding are constants where this
    is called."""
    zero_keep = np.int32(-1 if grid.zero_sign == KEEP else 0)
    zero_set = grid.sign_mask if grid.zero_sign == MINUS else np.int32(0)
    under_keep = np.int32(-1 if grid.underflow_sign == KEEP else 0)
    under_set = grid.sign_mask if grid.underflow_sign == MINUS else np.int32(0)
    slip = grid.slip if grid.slip > 0 else np.float32(-1)
    for k in range(x.shape[1]):
        x_k = x[b, k]
        magnitude = clamped(x_k, factor, multiply, grid)
        count, binade = steps(magnitude, grid)
        if rounding != NEAREST_EVEN:
            count = np.int32(resteps(count, magnitude, quantum_of(binade, grid), rounding, 0))
        code = code_of(count, binade, grid)
        code = np.int32(1) if magnitude == slip else code
        sign = shift_right(float_bits(x_k), np.int32(31))
        if grid.fixed_point:
            codes[b, k] = np.int32(np.int32(code ^ sign) - sign)
        else:
            kept = np.int32(sign & grid.sign_mask)
            zero = np.int32((kept & zero_keep) | zero_set) if magnitude <= grid.underflow else np.int32((kept & under_keep) | under_set)
            codes[b, k] = np.int32(code | (zero if code == 0 else kept))


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
        wide = np.empty((CHUNK, x.shape[1]), np.float32)
        codes = np.empty((CHUNK, x.shape[1]), np.uint8)
        for b in range(xs.shape[0]):
            for k in range(xs.shape[1]):
                wide[b, k] = widened(xs[b, k])
        for b in range(xs.shape[0]):
            amax = amax_bits(wide, b)
            row = scale_row(amax, scaling)
            factor, multiply = scaling.factors[row], scaling.multiply[row]
            if amax >= EXPONENT or not abs(factor) < np.inf:
                for k in range(xs.shape[1]):
                    codes[b, k] = element_code(wide[b, k], factor, multiply, grid)
            elif rounding == NEAREST_EVEN:
                if multiply:
                    policy_codes(wide, codes, b, factor, True, NEAREST_EVEN, grid)
                else:
                    policy_codes(wide, codes, b, factor, False, NEAREST_EVEN, grid)
            elif rounding == NEAREST_ZERO:
                policy_codes(wide, codes, b, factor, multiply, NEAREST_ZERO, grid)
            elif rounding == NEAREST_AWAY:
                policy_codes(wide, codes, b, factor, multiply, NEAREST_AWAY, grid)
            else:
                policy_codes(wide, codes, b, factor, multiply, TOWARD_ZERO, grid)
            found = SCALE_DIFFERS if scaling.codes[row] != scales[first + b] else np.uint8(0)
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
