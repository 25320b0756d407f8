"""Operand codes to what the reductions take: significands and exponents, or float64, laid out chunk by chunk.

`order` says which k stands at each place of the layout, -1 where there is none: such a place holds +0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.units.parameters import (
    E8M0,
    FLUSH,
    FNUZ,
    IEEE,
    KEEP,
    NAN_ONLY,
    SPECIAL,
    UE4M3,
    ZERO,
    Decoding,
)
from mxsim.kernels.units.rounding import power

NUMBER, INFINITY, NOT_A_NUMBER = range(3)
UE4M3_MBITS, UE4M3_BIAS = 3, 7


@njit
def element(code: int, d: Decoding) -> Any:
    """(kind, sign, significand, exponent): the magnitude is significand * 2^(exponent - mbits)."""
    if d.ebits == 0:
        integer = code - 256 if code >= 128 else code
        return NUMBER, integer < 0, abs(integer), -d.bias
    code &= ~((1 << d.low_bits) - 1)
    negative = (code >> (d.ebits + d.mbits)) & 1 == 1
    field = (code >> d.mbits) & ((1 << d.ebits) - 1)
    significand = code & ((1 << d.mbits) - 1)
    if field == (1 << d.ebits) - 1:
        if d.specials == IEEE:
            return (NOT_A_NUMBER if significand else INFINITY), negative, 0, 0
        if d.specials == NAN_ONLY and significand == (1 << d.mbits) - 1:
            return NOT_A_NUMBER, negative, 0, 0
    if d.specials == FNUZ and negative and field == 0 and significand == 0:
        return NOT_A_NUMBER, negative, 0, 0
    if field == 0:
        if d.denormals != KEEP:
            significand = 0
            negative = negative and d.denormals != FLUSH
        exponent = 1 - d.bias
        while significand and exponent > d.lowest and significand < 1 << d.mbits:
            significand <<= 1
            exponent -= 1
        return NUMBER, negative, significand, exponent
    return NUMBER, negative, significand | (1 << d.mbits), field - d.bias


@njit
def scale_of(code: int, d: Decoding) -> Any:
    """(NaN, significand, exponent) of a scale; UE4M3 has 3 fraction bits, and its sign counts for nothing."""
    if d.scale == E8M0:
        return code == 0xFF, 1, code - 127
    code &= 0x7F
    field = code >> UE4M3_MBITS
    significand = code & ((1 << UE4M3_MBITS) - 1)
    if field:
        significand |= 1 << UE4M3_MBITS
    return code == 0x7F, significand, max(field, 1) - UE4M3_BIAS


@njit(parallel=True, cache=True, nogil=True)
def terms(
    codes: npt.NDArray[Any],
    scales: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int64],
    d: Decoding,
    significands: npt.NDArray[np.int32],
    exponents: npt.NDArray[np.int16],
) -> None:
    """Signed significands and exponents (rows, places), the block's scale multiplied in.

    A zero has exponent ZERO; Inf has exponent SPECIAL and significand +-1, NaN SPECIAL and 0.
    """
    for row in prange(codes.shape[0]):
        for place in range(order.size):
            k = order[place]
            significands[row, place], exponents[row, place] = 0, ZERO
            if k < 0:
                continue
            kind, negative, significand, exponent = element(np.int64(codes[row, k]), d)
            if d.scale:
                nan, factor, shift = scale_of(np.int64(scales[row, k // d.block]), d)
                if nan:
                    kind = NOT_A_NUMBER
                significand *= factor
                exponent += shift
            if kind == NUMBER:
                if significand:
                    significands[row, place], exponents[row, place] = -significand if negative else significand, exponent
            else:
                exponents[row, place] = SPECIAL
                if kind == INFINITY:
                    significands[row, place] = -1 if negative else 1


@njit(parallel=True, cache=True, nogil=True)
def values(
    codes: npt.NDArray[Any],
    scales: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int64],
    d: Decoding,
    out: npt.NDArray[np.float64],
) -> None:
    """Exact float64 (rows, places), the block's scale multiplied in; zeros keep their signs."""
    for row in prange(codes.shape[0]):
        for place in range(order.size):
            k = order[place]
            if k < 0:
                out[row, place] = 0.0
                continue
            kind, negative, significand, exponent = element(np.int64(codes[row, k]), d)
            value = math.nan
            if kind == INFINITY:
                value = math.inf
            elif kind == NUMBER:
                value = np.float64(significand) * power(exponent - d.mbits)
            if d.scale:
                nan, factor, shift = scale_of(np.int64(scales[row, k // d.block]), d)
                fraction = UE4M3_MBITS if d.scale == UE4M3 else 0
                value *= math.nan if nan else np.float64(factor) * power(shift - fraction)
            out[row, place] = -value if negative else value


@njit(parallel=True, cache=True, nogil=True)
def groups(
    codes: npt.NDArray[Any],
    scales: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int64],
    d: Decoding,
    presum: int,
    integers: npt.NDArray[np.int32],
    significands: npt.NDArray[np.int32],
    exponents: npt.NDArray[np.int16],
) -> None:
    """Elements as integers (rows, places) in units of 2^(emin - mbits); scales (rows, places / presum) as terms are.

    No format that is narrow enough for groups has codes that are not numbers.
    """
    for row in prange(codes.shape[0]):
        for group in range(significands.shape[1]):
            significands[row, group], exponents[row, group] = 0, ZERO
            for place in range(group * presum, (group + 1) * presum):
                k = order[place]
                integers[row, place] = 0
                if k < 0:
                    continue
                _, negative, significand, exponent = element(np.int64(codes[row, k]), d)
                integer = significand << (exponent - (1 - d.bias)) if d.ebits else significand
                integers[row, place] = -integer if negative else integer
                if place == group * presum:
                    nan, factor, shift = scale_of(np.int64(scales[row, k // d.block]), d)
                    if nan:
                        exponents[row, group] = SPECIAL
                    elif factor:
                        significands[row, group], exponents[row, group] = factor, shift
