"""Exact sums of products, a strip of columns at a time: mx_fp32_chain, pulp_mxdotp, mx_exact.

A segment is some elements of one block, whose products add up exactly: in float32 where 24 bits hold them (E2M1, E2M3, E3M2, INT8), in
float64 where 53 do (E4M3, mostly E5M2). So each product costs one multiply-add, as in any GEMM. What happens to a segment's sum p, scaled
exactly, is the rule:

    CHAIN   acc = RNE32(acc + RNE32(p))
    FUSED   acc = RNE32(acc + p)          the same thing, and one multiply-add, where p fits a float32
    EXACT   high + low = high + low + p   two float64 that hold the sum of all p exactly; rounded once, at the end
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.units.vectors import each_as, fused, load8, load_as, load_line, seen_as, store, to, where

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Floats = Any  # float32 or float64

SIDE = 4  #: rows at a time
CHAIN, FUSED, EXACT = 0, 1, 2  #: rules
BELOW_24 = np.int64((1 << 29) - 1)  #: of a float64's bits, those a float32 does not keep
TIE = np.int64(1 << 28)  #: their value halfway between two float32


@njit(parallel=True, cache=True)
def pack_sides(values: Floats, packed: Floats) -> None:
    """A's panel (M, K) as (ceil(M / SIDE), K', SIDE), zeros around."""
    M, K = values.shape
    for side in prange(packed.shape[0]):
        for i in range(min(SIDE, M - side * SIDE)):
            for k in range(K):
                packed[side, k, i] = values[side * SIDE + i, k]


@njit(cache=True)
def two_sum(x: Any, y: Any) -> Any:
    """x + y, rounded, and what that left."""
    total = x + y
    shadow = total - x
    return total, (x - (total - shadow)) + (y - shadow)


@njit(cache=True)
def decided(total: Any, rest: Any) -> Any:
    """A float64 that rounds to float32 as total + rest does, total being RNE64 of it: only a tie needs a hint of the rest's sign."""
    bits = seen_as(total, np.int64)
    away = ((bits ^ seen_as(rest, np.int64)) >> 63) | 1  # one step from zero or toward it
    zero = bits ^ bits
    tie = ((bits & BELOW_24) == TIE) & (rest != 0.0)
    return seen_as(bits + where(tie, away, zero), np.float64)


@njit(cache=True)
def close_segment(
    rule: int, p: Any, a_scale: np.float32, b_scales: Float32, at_scales: int, c: Float32, high: Float64, low: Float64, at: int
) -> None:
    """Take one row's segment sums p, unscaled, into its accumulators: c, or high and low, from flat index `at`."""
    single = load_as(b_scales, at_scales, p)
    if rule == EXACT:
        x = to(p, np.float64) * (to(single, np.float64) * a_scale)
        y = load_as(high, at, p)
        total, rest = two_sum(x, y)
        store(high, at, total)
        store(low, at, load_as(low, at, p) + rest)
    elif rule == CHAIN:
        store(c, at, load_as(c, at, p) + to(p, np.float32) * (single * a_scale))
    else:
        x = to(p, np.float64) * to(single * a_scale, np.float64)
        y = to(load_as(c, at, p), np.float64)
        total, rest = two_sum(x, y)
        store(c, at, to(decided(total, rest), np.float32))


@njit(cache=True)
def close_single(p: Any, a_scale: np.float32, b_scales: Float32, at_scales: int, c: Float32, at: int) -> None:
    """CHAIN and FUSED for a float32 sum: the scaled sum is exact, so that one multiply-add rounds as both do."""
    store(c, at, fused(to(p, np.float32), load_as(b_scales, at_scales, p) * a_scale, load_as(c, at, p)))


@njit(cache=True)
def strip(
    a: Floats,
    a_scales: Float32,
    b: Floats,
    b_scales: Float32,
    ends: Int64,
    block: int,
    rule: int,
    column: int,
    c: Float32,
    high: Float64,
    low: Float64,
) -> None:
    """One panel of K for all rows and one strip of columns: b (K, lanes), b_scales (blocks, lanes), c or high and low (M, N)."""
    K, lanes = b.shape
    N = c.shape[1] if rule != EXACT else high.shape[1]
    single = b.itemsize == 4
    for side in range(a.shape[0]):
        row = side * SIDE
        at = row * N + column
        first = 0
        for segment in range(ends.size):
            zero = load_line(b, 0) * 0.0
            sum0, sum1, sum2, sum3 = zero, zero, zero, zero
            for k in range(first, ends[segment]):
                column_k = load_line(b, k * lanes)
                at_a = (side * K + k) * SIDE
                sum0 = fused(each_as(a, at_a, zero), column_k, sum0)
                sum1 = fused(each_as(a, at_a + 1, zero), column_k, sum1)
                sum2 = fused(each_as(a, at_a + 2, zero), column_k, sum2)
                sum3 = fused(each_as(a, at_a + 3, zero), column_k, sum3)
            g = first // block
            first = ends[segment]
            if single and rule != EXACT:
                close_single(sum0, a_scales[row, g], b_scales, g * lanes, c, at)
                close_single(sum1, a_scales[row + 1, g], b_scales, g * lanes, c, at + N)
                close_single(sum2, a_scales[row + 2, g], b_scales, g * lanes, c, at + 2 * N)
                close_single(sum3, a_scales[row + 3, g], b_scales, g * lanes, c, at + 3 * N)
            else:
                close_segment(rule, sum0, a_scales[row, g], b_scales, g * lanes, c, high, low, at)
                close_segment(rule, sum1, a_scales[row + 1, g], b_scales, g * lanes, c, high, low, at + N)
                close_segment(rule, sum2, a_scales[row + 2, g], b_scales, g * lanes, c, high, low, at + 2 * N)
                close_segment(rule, sum3, a_scales[row + 3, g], b_scales, g * lanes, c, high, low, at + 3 * N)


@njit(parallel=True, cache=True)
def exact_panel(
    a: Floats,
    a_scales: Float32,
    b_values: Floats,
    b_scales: Float32,
    ends: Int64,
    block: int,
    rule: int,
    c: Float32,
    high: Float64,
    low: Float64,
) -> None:
    """One panel of K. a: pack_sides; a_scales (M, blocks), b_scales (N, blocks); b_values (N, K); c or high and low: M, N padded."""
    K = a.shape[1]
    lanes = 64 // b_values.itemsize
    N, filled = b_values.shape
    blocks = a_scales.shape[1]
    for number in prange((N + lanes - 1) // lanes):
        column = number * lanes
        b = np.zeros((K, lanes), b_values.dtype)
        scales = np.zeros((blocks, lanes), np.float32)
        for j in range(min(lanes, N - column)):
            for k in range(filled):
                b[k, j] = b_values[column + j, k]
            for g in range(blocks):
                scales[g, j] = b_scales[column + j, g]
        strip(a, a_scales, b, scales, ends, block, rule, column, c, high, low)


@njit(parallel=True, cache=True)
def round_once(c: Float32, high: Float64, low: Float64) -> None:
    """c = RNE32(c + high + low), all (M, N) with N a multiple of 8."""
    M, N = c.shape
    for m in prange(M):
        for n in range(m * N, m * N + N, 8):
            head, tail = two_sum(load8(high, n), load8(low, n))
            total, rest = two_sum(to(load8(c, n), np.float64), head)
            rest, last = two_sum(rest, tail)
            total, rest = two_sum(total, rest)
            store(c, n, to(decided(total, where(rest != 0.0, rest, last)), np.float32))
