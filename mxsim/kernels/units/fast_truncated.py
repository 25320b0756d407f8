"""Aligned and truncated sums of products, 32 columns at a time: T-FDPA, ST-FDPA and CDNA3's step.

Every product of a chunk is cut toward zero to a multiple of 2^(E-F), E the largest exponent among the products (and C). A product of two
numbers of at most 11 + 13 significant bits is exact in float32; multiplying it by 2^(F-E) is an addition to its exponent field; and
converting it to int32 is the truncation. So a product costs four vector instructions: multiply, add, convert, add.

Operands come in chunks, each relative to an exponent of its own (block_exponents): values |v| < 2, exponents in -31..0 for numbers and
ABSENT for zero, so that a sum of two exponents tells numbers (>= -62) from zeros (<= ABSENT) in eight bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import bits_float, float_bits
from mxsim.kernels.units.vectors import each8, each32, fill8, floored, larger, load8, load32, seen_as, store, to, where

Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]

WIDTH = 32  #: columns of a tile
ROWS = 64  #: rows that pass over a tile's chunks together, so that their C stays near
ABSENT = -64  #: exponent of a zero, relative to its chunk's
LOWEST = -94  #: no product, and no C but zero, has a smaller exponent: every result is a normal number or zero
DROPPED = 3  #: B's values carry 2^-DROPPED: a product is below 4, so that a shift of -DROPPED leaves none of it
REACH = 31  #: binades below its chunk's exponent that a number may lie

RZ, CDNA3 = 0, 1  #: the rules for C and the result


@njit(cache=True)
def stretch_of(F: int) -> int:
    """How many products, each below 2^(F+2) units, an int32 can hold the sum of."""
    return 1 << (29 - F)


@njit(cache=True)
def chunk_exponent(values: Float32, row: int, first: int, last: int, emin: int) -> int:
    """The largest exponent among values[row, first:last], each at least emin; ABSENT - 127 if all are zero."""
    largest = ABSENT - 127
    for k in range(first, last):
        bits = float_bits(values[row, k]) & 0x7FFFFFFF
        if bits != 0:
            largest = max(largest, max((bits >> 23) - 127, emin))
    return largest


@njit(cache=True)
def power_of_two32(exponent: int) -> Any:
    """2^exponent as float32, down to the subnormal 2^-149."""
    return bits_float(np.int32(exponent + 127 << 23 if exponent > -127 else 1 << exponent + 149))


@njit(parallel=True, cache=True)
def pack_rows(values: Float32, scales: Int32, L: int, emin: int, packed: Float32, exponents: Int8, block_exponents: Int32) -> None:
    """A's panel (M, K) into chunks: packed, exponents (chunks, M, L); block_exponents (chunks, M), scales (M, chunks) added."""
    M, K = values.shape
    for m in prange(M):
        for chunk in range(packed.shape[0]):
            first, last = chunk * L, min(chunk * L + L, K)
            block = chunk_exponent(values, m, first, last, emin)
            factor = power_of_two32(-max(block, -126))
            block_exponents[chunk, m] = block + scales[m, chunk]
            for k in range(L):
                v = values[m, first + k] if first + k < last else np.float32(0)
                packed[chunk, m, k] = v * factor
                exponents[chunk, m, k] = max(((float_bits(v) >> 23) & 0xFF) - 127, emin) - block if v != 0 else ABSENT


@njit(cache=True)
def pack_tile(
    values: Float32, scales: Int32, column: int, L: int, emin: int, packed: Float32, exponents: Int8, block_exponents: Int32
) -> None:
    """B's columns from `column` (rows of values (N, K)) into chunks with the columns side by side: packed, exponents (chunks, L, WIDTH)."""
    N, K = values.shape
    for chunk in range(packed.shape[0]):
        first, last = chunk * L, min(chunk * L + L, K)
        for j in range(WIDTH):
            n = min(column + j, N - 1)  # a column past the end repeats the last, and is not written
            block = chunk_exponent(values, n, first, last, emin)
            factor = power_of_two32(-DROPPED - max(block, -126))
            block_exponents[chunk, j] = block + scales[n, chunk]
            for k in range(L):
                v = values[n, first + k] if first + k < last else np.float32(0)
                packed[chunk, k, j] = v * factor
                exponents[chunk, k, j] = max(((float_bits(v) >> 23) & 0xFF) - 127, emin) - block if v != 0 else ABSENT


@njit(cache=True)
def chunk_sums(a: Float32, at_a: int, b: Float32, at_b: int, count: int, shifts: Int32, sums: Int32, at: int) -> None:
    """sums[at : at + WIDTH] = the products of one row and WIDTH columns, each shifted by 2^(shifts / 2^23), truncated, added."""
    shift0, shift1, shift2, shift3 = load8(shifts, 0), load8(shifts, 8), load8(shifts, 16), load8(shifts, 24)
    sum0 = shift0 ^ shift0
    sum1 = sum0
    sum2 = sum0
    sum3 = sum0
    for k in range(count):
        x = each8(a, at_a + k)
        column = at_b + k * WIDTH
        sum0 = sum0 + to(seen_as(seen_as(x * load8(b, column), np.int32) + shift0, np.float32), np.int32)
        sum1 = sum1 + to(seen_as(seen_as(x * load8(b, column + 8), np.int32) + shift1, np.float32), np.int32)
        sum2 = sum2 + to(seen_as(seen_as(x * load8(b, column + 16), np.int32) + shift2, np.float32), np.int32)
        sum3 = sum3 + to(seen_as(seen_as(x * load8(b, column + 24), np.int32) + shift3, np.float32), np.int32)
    store(sums, at, sum0)
    store(sums, at + 8, sum1)
    store(sums, at + 16, sum2)
    store(sums, at + 24, sum3)


@njit(cache=True)
def power_of_two(exponents: Any) -> Any:
    """2^exponents as float64."""
    return seen_as((to(exponents, np.int64) + 1023) << 52, np.float64)


@njit(cache=True)
def floored_with_c(units: Any, E: Any, addend: Any) -> Any:
    """CDNA3's D: the products' sum, units * 2^(E-24), floored to 2^(E'-32), C to 2^(E'-24), both together to 32 bits; then RNE.

    E' is the larger of E and the exponent of C.
    """
    c_exponent = ((seen_as(addend, np.int32) >> 23) & 255) - 127
    reference = larger(E, c_exponent)
    total = floored(units * power_of_two(E - reference + 8))
    total = total + floored(to(addend, np.float64) * power_of_two(fill8(np.int32(24)) - reference)) * 256.0
    bits = seen_as(total, np.int64)
    bits = where(total < 0.0, bits + ((1 << 21) - 1), bits) & (-1 << 21)
    return to(seen_as(bits, np.float64) * power_of_two(reference - 32), np.float32)


@njit(cache=True)
def tile_chunk(
    a: Float32,
    a_exponents: Int8,
    a_blocks: Int32,
    b: Float32,
    b_exponents: Int8,
    b_blocks: Int32,
    chunk: int,
    first_row: int,
    last_row: int,
    L: int,
    F: int,
    kept: Any,
    rule: int,
    c: Float32,
    product_exponents: Int8,
    shifts: Int32,
    references: Int32,
    sums: Int32,
) -> None:
    """One chunk of K for some rows and one tile's columns: c (ROWS, WIDTH), C on entry and D on exit. The last four are scratch."""
    M = a.shape[1]
    wide = stretch_of(F) <= L  # the sum does not fit an int32 together with C
    stretch = min(L, stretch_of(F))
    for m in range(first_row, last_row):
        at_a = (chunk * M + m) * L
        at_b = chunk * L * WIDTH
        at_c = (m - first_row) * WIDTH
        largest = each32(a_exponents, at_a) + load32(b_exponents, at_b)
        for k in range(1, L):
            largest = larger(largest, each32(a_exponents, at_a + k) + load32(b_exponents, at_b + k * WIDTH))
        store(product_exponents, 0, largest)
        for j in range(0, WIDTH, 8):
            relative = to(load8(product_exponents, j), np.int32)
            block = load8(b_blocks, chunk * WIDTH + j) + a_blocks[chunk, m]
            absent = relative < ABSENT + 1
            E = ((seen_as(load8(c, at_c + j), np.int32) >> 23) & 255) - 127
            if rule == RZ:
                E = larger(E, fill8(np.int32(LOWEST)))
                E = where(absent, E, larger(E, relative + block))
                shift = (block - E) + (F + DROPPED)
                shift = larger(shift, fill8(np.int32(0)))
            else:
                E = where(absent, larger(E, fill8(np.int32(-126))), relative + block)
                shift = fill8(np.int32(F + DROPPED)) - relative
            store(shifts, j, where(absent, fill8(np.int32(0)), shift) << 23)
            store(references, j, E)
        for first in range(0, L, stretch):
            chunk_sums(a, at_a + first, b, at_b + first * WIDTH, min(stretch, L - first), shifts, sums, first // stretch * WIDTH)
        for j in range(0, WIDTH, 8):
            E = load8(references, j)
            addend = load8(c, at_c + j)
            if rule == RZ:
                c_units = to(addend * seen_as((fill8(np.int32(F + 127)) - E) << 23, np.float32), np.int32)
                if wide:
                    total = to(load8(sums, j), np.float64) + to(c_units, np.float64)
                    if stretch < L:
                        total = total + to(load8(sums, WIDTH + j), np.float64)
                else:
                    total = to(load8(sums, j) + c_units, np.float64)
                cut = seen_as(seen_as(total, np.int64) & kept, np.float64)
                store(c, at_c + j, to(cut, np.float32) * seen_as((E + (127 - F)) << 23, np.float32))
            else:
                store(c, at_c + j, floored_with_c(to(load8(sums, j), np.float64), E, addend))


@njit(parallel=True, cache=True)
def truncated_panel(
    a: Float32,
    a_exponents: Int8,
    a_blocks: Int32,
    b_values: Float32,
    b_scales: Int32,
    b_emin: int,
    L: int,
    F: int,
    kept: Any,
    rule: int,
    out: Float32,
) -> None:
    """out (M, N) = the unit's D over one panel of K, out on entry being C."""
    chunks, M, _ = a.shape
    N = b_values.shape[0]
    for tile in prange((N + WIDTH - 1) // WIDTH):
        column = tile * WIDTH
        columns = min(WIDTH, N - column)
        b = np.empty((chunks, L, WIDTH), np.float32)
        b_exponents = np.empty((chunks, L, WIDTH), np.int8)
        b_blocks = np.empty((chunks, WIDTH), np.int32)
        pack_tile(b_values, b_scales, column, L, b_emin, b, b_exponents, b_blocks)
        c = np.zeros((ROWS, WIDTH), np.float32)
        product_exponents = np.empty(WIDTH, np.int8)
        shifts = np.empty(WIDTH, np.int32)
        references = np.empty(WIDTH, np.int32)
        sums = np.empty(2 * WIDTH, np.int32)
        for first_row in range(0, M, ROWS):
            last_row = min(first_row + ROWS, M)
            for m in range(first_row, last_row):
                for j in range(columns):
                    c[m - first_row, j] = out[m, column + j]
            for chunk in range(chunks):
                tile_chunk(
                    a,
                    a_exponents,
                    a_blocks,
                    b,
                    b_exponents,
                    b_blocks,
                    chunk,
                    first_row,
                    last_row,
                    L,
                    F,
                    kept,
                    rule,
                    c,
                    product_exponents,
                    shifts,
                    references,
                    sums,
                )
            for m in range(first_row, last_row):
                for j in range(columns):
                    out[m, column + j] = c[m - first_row, j]
