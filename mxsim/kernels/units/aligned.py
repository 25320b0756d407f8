"""A chunk's terms aligned to a common quantum, cut, and added in fixed point.

The inner loops run over adjacent elements with nothing but integer additions, maxima and shifts, which the compiler turns into vector
code. A sum is an int64 in units of 2^(E - F); mxsim.units.spec makes sure that it fits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from mxsim.kernels.units.parameters import FLOOR, JAM, NEAREST, NEVER, NUMBERS, SPECIAL, TRUNC, ZERO, Fixed, Round
from mxsim.kernels.units.rounding import bit_length, bits64, rounded

Significands = npt.NDArray[np.int32]
Exponents = npt.NDArray[np.int16]
C_FRACTION = 23  #: C's significand is an integer of 24 bits
MARGIN = 4  #: a product of exponent E is at most 2^(E + MARGIN): of UE4M3 scales, and of -2 by -2 in INT8, not below 2^(E + 2)


@njit
def decomposed(x: float, emin: int) -> Any:
    """(s, e) of a finite float of at most 24 bits: x = s * 2^(e - 23), e >= emin; a zero has exponent ZERO."""
    if x == 0.0:
        return 0, ZERO
    bits = bits64(x)
    e = ((bits >> 52) & 0x7FF) - 1023
    significand = ((bits & ((1 << 52) - 1)) | (1 << 52)) >> (52 - C_FRACTION)
    if e < emin:
        significand >>= min(emin - e, 63)
        e = emin
    return (-significand if x < 0.0 else significand), e


@njit(inline="always")
def largest_exponent(ea: Exponents, eb: Exponents, i: int, j: int, first: int, length: int) -> Any:
    """The largest exponent of the products; below -NUMBERS where all are zero, above NUMBERS with Inf or NaN."""
    E = np.int16(-NEVER)
    for k in range(first, first + length):
        E = max(E, np.int16(ea[i, k] + eb[j, k]))
    return np.int64(E)


@njit
def cut(p: int, left: int, right: int, align: int) -> Any:
    """p * 2^(left - right), 0 <= left, as an integer: what is cut off is dropped, floored, rounded or jammed."""
    right = min(max(right, 0), 63)
    if align == FLOOR:
        return (p << left) >> right
    magnitude = np.uint64(abs(p)) << np.uint64(left)
    t = magnitude >> np.uint64(right)
    rest = magnitude - (t << np.uint64(right))
    if align == JAM:
        if rest != np.uint64(0):
            t |= np.uint64(1)
    elif align == NEAREST:
        half = (np.uint64(1) << np.uint64(right)) >> np.uint64(1)
        if right > 0 and (rest > half or (rest == half and (t & np.uint64(1)) == np.uint64(1))):
            t += np.uint64(1)
    return -np.int64(t) if p < 0 else np.int64(t)


@njit(inline="always")
def truncated_products(
    sa: Significands, ea: Exponents, sb: Significands, eb: Exponents, i: int, j: int, first: int, length: int, left: int, top: int
) -> Any:
    """Sum of the products, each cut toward zero: shifted left, then right by top minus its exponent."""
    total = np.int64(0)
    for k in range(first, first + length):
        p = np.int64(sa[i, k]) * np.int64(sb[j, k])
        right = min(top - np.int64(np.int16(ea[i, k] + eb[j, k])), np.int64(63))
        t = np.int64((np.uint64(abs(p)) << np.uint64(left)) >> np.uint64(right))
        sign = p >> 63
        total += (t ^ sign) - sign
    return total


@njit
def aligned_products(
    sa: Significands,
    ea: Exponents,
    sb: Significands,
    eb: Exponents,
    i: int,
    j: int,
    first: int,
    length: int,
    E: int,
    fixed: Fixed,
) -> Any:
    """Sum of the products in units of 2^(E - F)."""
    left, right = max(fixed.F - fixed.fraction, 0), max(fixed.fraction - fixed.F, 0)
    if fixed.align == TRUNC:
        return truncated_products(sa, ea, sb, eb, i, j, first, length, left, E + right)
    total = np.int64(0)
    for k in range(first, first + length):
        e = np.int64(np.int16(ea[i, k] + eb[j, k]))
        total += cut(np.int64(sa[i, k]) * np.int64(sb[j, k]), left, E + right - e, fixed.align)
    return total


@njit
def special(
    sa: Significands, ea: Exponents, sb: Significands, eb: Exponents, i: int, j: int, first: int, length: int, c: float, fixed: Fixed
) -> Any:
    """Whether the sum is no number, and if so which of Inf, -Inf, NaN it is: 0 * Inf, Inf - Inf and NaN give NaN."""
    plus, minus = c == math.inf, c == -math.inf
    nan = math.isnan(c)
    for k in range(first, first + length):
        x, y = np.int64(sa[i, k]), np.int64(sb[j, k])
        special_x, special_y = ea[i, k] == SPECIAL, eb[j, k] == SPECIAL
        if special_x or special_y:
            if x == 0 or y == 0:
                nan = True
            elif (x < 0) == (y < 0):
                plus = True
            else:
                minus = True
        elif fixed.limit != NEVER and x != 0 and y != 0:
            p = x * y
            right = fixed.limit - (np.int64(ea[i, k]) + np.int64(eb[j, k])) + fixed.fraction
            if right < 0 or (right < 63 and abs(p) >> right != 0):
                if p > 0:
                    plus = True
                else:
                    minus = True
    if nan or (plus and minus):
        return True, math.nan
    if plus:
        return True, math.inf
    if minus:
        return True, -math.inf
    return False, 0.0


@njit
def aligned_with_c(total: int, E: int, c_significand: int, fixed: Fixed, c_exponent: int) -> Any:
    """The sum with C as one more term, in units of 2^(E - F)."""
    left, right = max(fixed.F - C_FRACTION, 0), max(C_FRACTION - fixed.F, 0)
    return total + cut(c_significand, left, E - c_exponent + right, fixed.align)


@njit
def with_floored_c(total: int, E: int, c: float, c_emin: int, fixed: Fixed, to: Round) -> Any:
    """The C step of mxsim.units.spec.FlooredC; total is in units of 2^(E - F), E below -NUMBERS where all products are zero."""
    significand, e = decomposed(c, c_emin)
    if e == ZERO:
        e = to.emin
    both = max(E, e)
    right = both - E - (fixed.sum_bits - fixed.F) if E > -NUMBERS else 0
    total = total >> min(right, 63) if right >= 0 else total << -right
    if e >= both - fixed.drop_below:
        right = both - e + C_FRACTION - fixed.c_bits
        c_units = significand >> min(right, 63) if right >= 0 else significand << -right
        total += c_units << (fixed.sum_bits - fixed.c_bits)
    if total == 0:
        return 0.0
    q = both - fixed.sum_bits
    quantum = max(bit_length(np.uint64(abs(total))) - 1 + q, to.emin) - fixed.norm_bits
    if quantum > q:
        total >>= min(quantum - q, 63)
        q = quantum
    return rounded(total < 0, np.uint64(abs(total)), q, to)


@njit
def aligned(
    sa: Significands,
    ea: Exponents,
    sb: Significands,
    eb: Exponents,
    i: int,
    j: int,
    first: int,
    length: int,
    c: float,
    c_emin: int,
    fixed: Fixed,
    to: Round,
) -> Any:
    """One chunk: C (+0 where it is added late) and `length` products from place `first`, rounded."""
    E = largest_exponent(ea, eb, i, j, first, length)
    if NUMBERS < E or fixed.limit - MARGIN <= E or not math.isfinite(c):
        found, value = special(sa, ea, sb, eb, i, j, first, length, c, fixed)
        if found:
            return value
    if fixed.floored:
        if not fixed.halves:
            total = aligned_products(sa, ea, sb, eb, i, j, first, length, E, fixed) if E > -NUMBERS else np.int64(0)
            return with_floored_c(total, E, c, c_emin, fixed, to)
        half = length // 2
        total = np.int64(0)
        for start in (first, first + half):
            E_half = largest_exponent(ea, eb, i, j, start, half)
            if E_half > -NUMBERS:
                total += aligned_products(sa, ea, sb, eb, i, j, start, half, E_half, fixed) >> min(E - E_half, 63)
        return with_floored_c(total, E, c, c_emin, fixed, to)
    significand, e = decomposed(c, c_emin)
    E = max(E, e, fixed.e_zero)
    if E < -NUMBERS:
        return 0.0
    total = aligned_products(sa, ea, sb, eb, i, j, first, length, E, fixed)
    if significand != 0:
        total = aligned_with_c(total, E, significand, fixed, e)
    return rounded(total < 0, np.uint64(abs(total)), E - fixed.F, to)


@njit(inline="always")
def group_sum(xa: Significands, xb: Significands, i: int, j: int, first: int, length: int) -> Any:
    """The exact sum of a group's products, and whether any is not zero."""
    total, any_product = np.int32(0), np.int32(0)
    for k in range(first, first + length):
        p = np.int32(xa[i, k] * xb[j, k])
        total = np.int32(total + p)
        any_product |= p
    return np.int64(total), np.int64(any_product)


@njit
def grouped(
    xa: Significands,
    xb: Significands,
    sa: Significands,
    ea: Exponents,
    sb: Significands,
    eb: Exponents,
    i: int,
    j: int,
    first: int,
    length: int,
    c: float,
    c_emin: int,
    fixed: Fixed,
    to: Round,
    sums: npt.NDArray[np.int64],
) -> Any:
    """One chunk of `length` groups from group `first`: exact sums, placed by the exponents of their scales alone."""
    significand, e = decomposed(c, c_emin) if math.isfinite(c) else (0, ZERO)
    E = max(e, fixed.e_zero)
    E_all = E
    for g in range(length):
        group = first + g
        total, any_product = group_sum(xa, xb, i, j, group * fixed.presum, fixed.presum)
        sums[g] = total * np.int64(sa[i, group]) * np.int64(sb[j, group])
        scale = np.int64(ea[i, group]) + np.int64(eb[j, group])
        E_all = max(E_all, scale)
        if any_product != 0:
            E = max(E, scale)
    if E_all > NUMBERS:
        return math.nan
    if not math.isfinite(c):
        return c
    if E < -NUMBERS:
        return 0.0
    left, right = max(fixed.F - fixed.fraction, 0), max(fixed.fraction - fixed.F, 0)
    total = np.int64(0)
    for g in range(length):
        scale = np.int64(ea[i, first + g]) + np.int64(eb[j, first + g])
        total += cut(sums[g], left, E - scale + right, fixed.align)
    if significand != 0:
        total = aligned_with_c(total, E, significand, fixed, e)
    return rounded(total < 0, np.uint64(abs(total)), E - fixed.F, to)
