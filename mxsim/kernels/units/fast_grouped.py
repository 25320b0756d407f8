"""GST-FDPA (mxf4, mxf4nvf4), 32 columns at a time: exact sums of groups, placed by their scales, one truncation to 24 bits per 64 of K.

E2M1 numbers are halves: a group's products add up in int16, and a scaled group is a short integer times a power of two. The unit cuts
every term to a multiple of 2^(E-35), which leaves a group alone unless the exponents of a chunk's scales lie further apart than `spread`,
and leaves C alone unless it is below 2^(E-12): so the chunk's sum is exact in float64 and its truncation is a mask over its bits. The
columns for which a bound on E does not show this go through `careful_chunk` one by one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import float_bits
from mxsim.kernels.units.vectors import any_lane, each16, fill8, fused, load8, load16, seen_as, store, to

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

WIDTH = 32  #: columns of a tile
SIDE = 4  #: rows at a time
ROWS = 64  #: rows that pass over a tile's chunks together
L, G, F, E_ZERO = 64, 16, 35, -139
NOTHING = 1 << 20  #: exponent of no group at all
C_SPAN = 12  #: C is a multiple of 2^(e-23), and so of 2^(E-35) where E - e <= 12
LOWEST = -110  #: no sum of two scales' exponents is smaller: every result is a normal number or zero
RZ_24 = np.int64(-1 << 29)  #: of a float64's bits, those of its first 24 significant ones


@njit(cache=True)
def unpack(
    codes: Bytes,
    scales: Bytes,
    row: int,
    first: int,
    count: int,
    block: int,
    halves: Int16,
    scale_exponents: Int32,
    scale_values: Float64,
    integers: Int16,
    exponents: Int32,
    factors: Float64,
) -> tuple[int, int]:
    """One row's chunk from element `first`: integers (L,), exponents and factors (L / block,), 0 for a group of zeros. Returns:
    the smallest and the largest exponent of its groups that are not zero.
    """
    low, high = NOTHING, -NOTHING
    for g in range(L // block):
        any_bits = 0
        for k in range(g * block, g * block + block):
            code = codes[row, first + k] if k < count else 0
            integers[k] = halves[code]
            any_bits |= integers[k]
        exponents[g], factors[g] = 0, 0.0
        if g * block < count:
            scale = scales[row, (first + g * block) // block]
            exponents[g] = scale_exponents[scale]
            if any_bits != 0:
                factors[g] = scale_values[scale]
            if factors[g] != 0:
                low, high = min(low, exponents[g]), max(high, exponents[g])
    return low, high


@njit(parallel=True, cache=True)
def pack_rows(
    codes: Bytes,
    scales: Bytes,
    first: int,
    last: int,
    block: int,
    halves: Int16,
    scale_exponents: Int32,
    scale_values: Float64,
    a: Int16,
    a_exponents: Int32,
    a_factors: Float64,
    a_range: Int32,
) -> None:
    """A's panel of K from first to last: a (chunks, M, L), a_exponents, a_factors (chunks, M, L / block), a_range (chunks, M, 2)."""
    for m in prange(codes.shape[0]):
        for chunk in range(a.shape[0]):
            k = first + chunk * L
            low, high = unpack(
                codes,
                scales,
                m,
                k,
                min(L, last - k),
                block,
                halves,
                scale_exponents,
                scale_values,
                a[chunk, m],
                a_exponents[chunk, m],
                a_factors[chunk, m],
            )
            a_range[chunk, m, 0], a_range[chunk, m, 1] = low, high


@njit(cache=True)
def group_sums(a: Int16, at_a: int, b: Int16, at_b: int, count: int, sums: Int16) -> None:
    """sums (SIDE, WIDTH): the products of SIDE rows and WIDTH columns over `count` of K, added."""
    zero = load16(b, at_b) ^ load16(b, at_b)
    sum00, sum01, sum10, sum11, sum20, sum21, sum30, sum31 = zero, zero, zero, zero, zero, zero, zero, zero
    for k in range(count):
        left = load16(b, at_b + k * WIDTH)
        right = load16(b, at_b + k * WIDTH + 16)
        x = each16(a, at_a + k)
        sum00 = sum00 + x * left
        sum01 = sum01 + x * right
        x = each16(a, at_a + L + k)
        sum10 = sum10 + x * left
        sum11 = sum11 + x * right
        x = each16(a, at_a + 2 * L + k)
        sum20 = sum20 + x * left
        sum21 = sum21 + x * right
        x = each16(a, at_a + 3 * L + k)
        sum30 = sum30 + x * left
        sum31 = sum31 + x * right
    store(sums, 0, sum00)
    store(sums, 16, sum01)
    store(sums, 32, sum10)
    store(sums, 48, sum11)
    store(sums, 64, sum20)
    store(sums, 80, sum21)
    store(sums, 96, sum30)
    store(sums, 112, sum31)


@njit(cache=True)
def careful_chunk(
    a: Int16,
    a_exponents: Int32,
    a_factors: Float64,
    b: Int16,
    b_exponents: Int32,
    b_factors: Float64,
    chunk: int,
    m: int,
    j: int,
    block: int,
    c: np.float32,
) -> np.float32:
    """D of one row and column over one chunk: the definition, term by term."""
    E = max((float_bits(c) >> 23 & 0xFF) - 127, -126) if c != 0 else E_ZERO
    for g in range(0, L, G):
        if a_factors[chunk, m, g // block] != 0 and b_factors[chunk, g // block, j] != 0:
            for k in range(g, g + G):
                if a[chunk, m, k] != 0 and b[chunk, k, j] != 0:
                    E = max(E, a_exponents[chunk, m, g // block] + b_exponents[chunk, g // block, j])
                    break
    to_units = 2.0 ** (F - E)
    units = np.trunc(np.float64(c) * to_units)
    for g in range(0, L, G):
        p = 0
        for k in range(g, g + G):
            p += int(a[chunk, m, k]) * int(b[chunk, k, j])
        units += np.trunc(p * a_factors[chunk, m, g // block] * b_factors[chunk, g // block, j] * to_units)
    bits = abs(np.int64(units))
    over = 0
    while bits >> over >= 1 << 24:
        over += 1
    cut = np.float64((bits >> over) << over) * 2.0 ** (E - F)
    return np.float32(-cut) if units < 0 else np.float32(cut)


@njit(cache=True)
def chunk_side(
    a: Int16,
    a_exponents: Int32,
    a_factors: Float64,
    a_range: Int32,
    b: Int16,
    b_exponents: Int32,
    b_factors: Float64,
    b_range: Int32,
    chunk: int,
    m: int,
    row: int,
    block: int,
    spread: int,
    c: Float32,
    sums: Int16,
) -> None:
    """One chunk of K for SIDE rows from m: their c (ROWS, WIDTH) from `row`, C on entry and D on exit."""
    M = a.shape[1]
    groups = L // block
    for g in range(groups):
        group_sums(a, (chunk * M + m) * L + g * block, b, (chunk * L + g * block) * WIDTH, block, sums[g])
    for i in range(SIDE):
        a_low, a_high = a_range[chunk, m + i, 0], a_range[chunk, m + i, 1]
        for j in range(0, WIDTH, 8):
            addend = load8(c, (row + i) * WIDTH + j)
            total = to(addend, np.float64)
            for g in range(groups):
                p = to(load8(sums, (g * SIDE + i) * WIDTH + j), np.float64)
                total = fused(p * load8(b_factors, (chunk * groups + g) * WIDTH + j), fill8(a_factors[chunk, m + i, g]), total)
            d = to(seen_as(seen_as(total, np.int64) & RZ_24, np.float64), np.float32)
            low = load8(b_range, chunk * 2 * WIDTH + j) + a_low
            high = load8(b_range, (chunk * 2 + 1) * WIDTH + j) + a_high
            exponent = (seen_as(addend, np.int32) >> 23 & 255) - 127
            unsure = (high - low > spread) | ((exponent > -127) & ((high - exponent > C_SPAN) | (exponent - low > spread)))
            if any_lane(unsure):
                for lane in range(j, j + 8):
                    c[row + i, lane] = careful_chunk(
                        a, a_exponents, a_factors, b, b_exponents, b_factors, chunk, m + i, lane, block, c[row + i, lane]
                    )
            else:
                store(c, (row + i) * WIDTH + j, d)


@njit(parallel=True, cache=True)
def grouped_panel(
    a: Int16,
    a_exponents: Int32,
    a_factors: Float64,
    a_range: Int32,
    codes: Bytes,
    scales: Bytes,
    first: int,
    last: int,
    block: int,
    spread: int,
    halves: Int16,
    scale_exponents: Int32,
    scale_values: Float64,
    lowest: Int32,
    highest: Int32,
    out: Float32,
) -> None:
    """out (M, N) = D over the panel of K from first to last, C on entry. codes (N, K), scales: B's; a: M padded to a multiple of SIDE.

    lowest, highest (N,): widened by the exponents of B's scales.
    """
    chunks = a.shape[0]
    M, N = out.shape
    groups = L // block
    for tile in prange((N + WIDTH - 1) // WIDTH):
        column = tile * WIDTH
        columns = min(WIDTH, N - column)
        b = np.zeros((chunks, L, WIDTH), np.int16)
        b_exponents = np.zeros((chunks, groups, WIDTH), np.int32)
        b_factors = np.zeros((chunks, groups, WIDTH), np.float64)
        b_range = np.zeros((chunks, 2, WIDTH), np.int32)
        integers, exponents, factors = np.empty(L, np.int16), np.empty(groups, np.int32), np.empty(groups, np.float64)
        for chunk in range(chunks):
            k = first + chunk * L
            for j in range(columns):
                b_range[chunk, 0, j], b_range[chunk, 1, j] = unpack(
                    codes,
                    scales,
                    column + j,
                    k,
                    min(L, last - k),
                    block,
                    halves,
                    scale_exponents,
                    scale_values,
                    integers,
                    exponents,
                    factors,
                )
                lowest[column + j] = min(lowest[column + j], b_range[chunk, 0, j])
                highest[column + j] = max(highest[column + j], b_range[chunk, 1, j])
                b[chunk, :, j] = integers
                b_exponents[chunk, :, j] = exponents
                b_factors[chunk, :, j] = factors
        sums = np.empty((groups, SIDE, WIDTH), np.int16)
        c = np.zeros((ROWS, WIDTH), np.float32)
        for first_row in range(0, M, ROWS):
            last_row = min(first_row + ROWS, M)
            for m in range(first_row, last_row):
                for j in range(columns):
                    c[m - first_row, j] = out[m, column + j]
            for chunk in range(chunks):
                for m in range(first_row, last_row, SIDE):
                    chunk_side(
                        a,
                        a_exponents,
                        a_factors,
                        a_range,
                        b,
                        b_exponents,
                        b_factors,
                        b_range,
                        chunk,
                        m,
                        m - first_row,
                        block,
                        spread,
                        c,
                        sums,
                    )
            for m in range(first_row, last_row):
                for j in range(columns):
                    out[m, column + j] = c[m - first_row, j]
