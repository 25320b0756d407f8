"""The exact sum of any products and C, rounded once.

Where all terms fit side by side into an int64, as those of ordinary data do, that is what adds them. Otherwise they go into a number of
LIMBS digits of 32 bits that spans every exponent there is; digits are signed and carry only at the end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from mxsim.kernels.units.aligned import (
    C_FRACTION,
    MARGIN,
    Exponents,
    Significands,
    decomposed,
    largest_exponent,
    special,
)
from mxsim.kernels.units.parameters import NEVER, NUMBERS, Fixed, Round
from mxsim.kernels.units.rounding import bit_length, rounded

LIMBS = 26
LEAST = -352  #: the lowest digit's unit is 2^LEAST: products of scaled and of subnormal operands reach 2^-310
WINDOW = 61  #: bits of an int64 sum beside its sign
PIECE = 64  #: products added at a time
Limbs = npt.NDArray[np.int64]


@njit(inline="always")
def least_exponent(ea: Exponents, eb: Exponents, i: int, j: int, first: int, length: int) -> Any:
    """The least exponent of a product that is not zero."""
    least = np.int16(NEVER)
    for k in range(first, first + length):
        e = np.int16(ea[i, k] + eb[j, k])
        least = min(least, e if e > -NUMBERS else np.int16(NEVER))
    return np.int64(least)


@njit(inline="always")
def shifted_products(
    sa: Significands, ea: Exponents, sb: Significands, eb: Exponents, i: int, j: int, first: int, length: int, least: int
) -> Any:
    """Sum of the products in units of 2^(least - fraction): exact."""
    total = np.int64(0)
    for k in range(first, first + length):
        left = max(np.int64(np.int16(ea[i, k] + eb[j, k])) - least, np.int64(0))
        total += (np.int64(sa[i, k]) * np.int64(sb[j, k])) << left
    return total


@njit
def deposit(limbs: Limbs, value: int, q: int) -> None:
    """Add value * 2^q, |value| < 2^62."""
    place = q - LEAST
    digit, shift = place >> 5, np.uint64(place & 31)
    magnitude, sign = np.uint64(abs(value)), np.int64(-1 if value < 0 else 1)
    low = (magnitude & np.uint64(0xFFFFFFFF)) << shift
    high = (magnitude >> np.uint64(32)) << shift
    limbs[digit] += sign * np.int64(low & np.uint64(0xFFFFFFFF))
    limbs[digit + 1] += sign * np.int64((low >> np.uint64(32)) + (high & np.uint64(0xFFFFFFFF)))
    limbs[digit + 2] += sign * np.int64(high >> np.uint64(32))


@njit
def settled(limbs: Limbs, to: Round) -> Any:
    """The number that the limbs hold, rounded; they are changed on the way."""
    negative = False
    while True:
        carry = np.int64(0)
        for n in range(LIMBS):
            digit = limbs[n] + carry
            carry = digit >> 32
            limbs[n] = digit & 0xFFFFFFFF
        if carry >= 0:
            break
        negative = True
        for n in range(LIMBS):
            limbs[n] = -limbs[n]
        limbs[LIMBS - 1] -= carry << 32
    top = LIMBS - 1
    while top > 0 and limbs[top] == 0:
        top -= 1
    if top == 0:
        return rounded(negative, np.uint64(limbs[0]), LEAST, to)
    # 33 to 62 bits decide every rounding if the last of them also says whether anything lies below.
    magnitude, q = (np.uint64(limbs[top]) << np.uint64(32)) | np.uint64(limbs[top - 1]), LEAST + 32 * (top - 1)
    sticky = False
    if magnitude >> np.uint64(62):
        sticky = (magnitude & np.uint64(3)) != np.uint64(0)
        magnitude >>= np.uint64(2)
        q += 2
    for n in range(top - 1):
        sticky = sticky or limbs[n] != 0
    return rounded(negative, magnitude | np.uint64(sticky), q, to)


@njit
def exact(
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
    limbs: Limbs,
) -> Any:
    """C (+0 where it is added late) and `length` products from place `first`, one rounding."""
    significand, e = decomposed(c, c_emin) if math.isfinite(c) else (0, 0)
    most = largest_exponent(ea, eb, i, j, first, length)
    if most > NUMBERS or fixed.limit - MARGIN <= most or not math.isfinite(c):
        found, value = special(sa, ea, sb, eb, i, j, first, length, c, fixed)
        if found:
            return value
    if most < -NUMBERS and significand == 0:
        return 0.0
    if length <= PIECE:
        least, top = NEVER, -NEVER
        if most > -NUMBERS:
            least, top = least_exponent(ea, eb, i, j, first, length) - fixed.fraction, most + 2
        room = WINDOW - bit_length(np.uint64(length + 1))
        unit = least
        if significand != 0:
            unit, top = min(least, e - C_FRACTION), max(top, e + 1)
        if top - unit <= room:
            total = np.int64(0)
            if most > -NUMBERS:
                total = shifted_products(sa, ea, sb, eb, i, j, first, length, unit + fixed.fraction)
            if significand != 0:
                total += significand << (e - C_FRACTION - unit)
            return rounded(total < 0, np.uint64(abs(total)), unit, to)
    limbs[:] = 0
    if significand != 0:
        deposit(limbs, significand, e - C_FRACTION)
    room = WINDOW - bit_length(np.uint64(PIECE)) - 2 - fixed.fraction
    for start in range(first, first + length, PIECE):
        count = min(PIECE, first + length - start)
        highest = largest_exponent(ea, eb, i, j, start, count)
        if highest < -NUMBERS:
            continue
        lowest = least_exponent(ea, eb, i, j, start, count)
        if highest - lowest <= room:
            deposit(limbs, shifted_products(sa, ea, sb, eb, i, j, start, count, lowest), lowest - fixed.fraction)
        else:
            for k in range(start, start + count):
                p = np.int64(sa[i, k]) * np.int64(sb[j, k])
                if p != 0:
                    deposit(limbs, p, np.int64(ea[i, k]) + np.int64(eb[j, k]) - fixed.fraction)
    return settled(limbs, to)
