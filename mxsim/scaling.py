"""Scale rules: from a block's largest magnitude to its scale, in the exact form and as libraries compute it in floating point.

An E8M0 rule is a function (amax, element) -> exponent over float32 arrays of positive numbers; the scale is 2^exponent before clamping.
Every rule is a rising step function with at most one step in a binade, so the kernels need only where its steps are: see step_table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import DTYPES
from mxsim.formats import ElementFormat

Float32 = npt.NDArray[np.float32]
Exponents = npt.NDArray[np.int64]
ScaleExponent = Callable[[Float32, ElementFormat], Exponents]

OVERFLOW = 1 << 20  #: stands for a scale that came out infinite
SIGNIFICAND = (1 << 23) - 1
BINADES = 255 + 23  #: of the normal float32 numbers, by exponent field, and of the subnormal ones, by leading bit


def _fields(amax: Float32) -> tuple[Exponents, Exponents]:
    """Exponent e and 23-bit fraction f of each positive number, subnormals among them: amax = (1 + f / 2^23) * 2^e. Inf has e = 128."""
    bits = amax.view(np.int32).astype(np.int64)
    field, fraction = bits >> 23, bits & SIGNIFICAND
    leading = np.frexp(np.maximum(fraction, 1).astype(np.float64))[1] - 1
    subnormal = field == 0
    return (
        np.where(subnormal, leading - 149, field - 127),
        np.where(subnormal, (fraction << (23 - leading)) & SIGNIFICAND, fraction),
    )


def _bumped(amax: Float32, element: ElementFormat, threshold: int) -> Exponents:
    """The floor rule's exponent, one higher where the fraction reaches a threshold."""
    exponent, fraction = _fields(amax)
    return exponent - element.emax + (fraction >= threshold)


def floor(amax: Float32, element: ElementFormat) -> Exponents:
    """Largest power of two <= amax over the largest power of two in the element format. Source: OCP MX v1.0, 6.3."""
    return _bumped(amax, element, SIGNIFICAND + 1)


def ceil(amax: Float32, element: ElementFormat) -> Exponents:
    """Smallest power of two >= amax over the largest power of two in the element format."""
    return _bumped(amax, element, 1)


def rceil(amax: Float32, element: ElementFormat) -> Exponents:
    """amax / max of the element format, rounded up to a power of two: nothing saturates. Source: NVIDIA PTX ISA, cvt.rp.ue8m0."""
    return _bumped(amax, element, _fields(np.array([element.max], np.float32))[1][0] + 1)


def even(amax: Float32, element: ElementFormat) -> Exponents:
    """The floor rule on amax rounded half up to the element's significand bits. Source: AMD Quark's name for it."""
    return _bumped(amax, element, (1 << 23) - (1 << (22 - element.mbits)))


def _log2(x: Float32) -> Float32:
    """log2 rounded to nearest float32, as torch computes it; +-Inf at Inf and 0."""
    exact = np.frexp(x.astype(np.float64))
    with np.errstate(divide="ignore"):
        # The float64 logarithm of the significand alone keeps its last places; its own error is 2^-29 of a float32 ulp.
        return np.asarray(exact[1] + np.log(exact[0]) / np.log(2.0), np.float32)


def _whole(exponent: Float32) -> Exponents:
    return np.where(np.isfinite(exponent), exponent, np.copysign(OVERFLOW, exponent)).astype(np.int64)


def rounded_log2(amax: Float32, element: ElementFormat, direction: str, dtype: str) -> Exponents:
    """log2(amax) in float32, then in dtype, then to an integer, down ("floor") or up ("ceil"); less emax.

    What 2^exponent cannot be in dtype is -OVERFLOW: a scale of zero.
    """
    log2 = _log2(amax).astype(DTYPES[dtype]).astype(np.float32)
    exponent = _whole(np.floor(log2) if direction == "floor" else np.ceil(log2)) - element.emax
    return np.where(exponent < (-24 if dtype == "float16" else -149 if dtype == "float32" else -133), -OVERFLOW, exponent)


def log2_rceil(amax: Float32, element: ElementFormat, divisor: float | None = None) -> Exponents:
    """ceil(log2(amax / max)) in float32: one too low for the first numbers above max times a power of two."""
    quotient = amax / np.float32(element.max if divisor is None else divisor)
    return _whole(np.ceil(_log2(quotient)))


def carried(amax: Float32, element: ElementFormat, bits: int, dtype: Any) -> Exponents:
    """Half a unit of `bits` significand bits added to the bits of amax in its own dtype, then its exponent field: no subnormals."""
    word, mbits, bias = {
        "float32": (np.int32, 23, 127),
        "bfloat16": (np.int16, 7, 127),
        "float16": (np.int16, 10, 15),
    }[dtype]
    if dtype == "bfloat16":
        pattern = amax.view(np.int32).astype(np.int64) >> 16
    else:
        with np.errstate(over="ignore"):
            pattern = amax.astype(dtype).view(word).astype(np.int64)
    field = (pattern + (1 << (mbits - bits - 1))) >> mbits
    exponent = np.where(field == 0, -127, field - bias - element.emax)
    return np.where(field >= 2 * bias + 1, OVERFLOW, exponent)


def carried_in(bits: int, dtype: str) -> ScaleExponent:
    """The rule `carried` for one dtype."""
    return partial(carried, bits=bits, dtype=dtype)


def log2_in(direction: str, dtype: str) -> ScaleExponent:
    """The rule `rounded_log2` for one dtype."""
    return partial(rounded_log2, direction=direction, dtype=dtype)


def log2_rceil_of(divisor: float) -> ScaleExponent:
    """The rule `log2_rceil` with another divisor than the element's maximum."""
    return partial(log2_rceil, divisor=divisor)


def step_table(rule: ScaleExponent, element: ElementFormat) -> tuple[Exponents, Exponents, Exponents]:
    """Where a rule's steps are.

    Returns: (below, above, threshold), (BINADES,) each: the exponents below and from the threshold on, and the threshold in the binade's
    23-bit fraction, 2^23 where there is no step. Binade b < 255 is the exponent field of amax (0 is never used), 255 + l the subnormals
    whose leading bit is bit l.
    """
    binade = np.arange(BINADES, dtype=np.int64)
    leading = np.maximum(binade - 255, 0)
    start = np.where(binade < 255, np.maximum(binade, 1) << 23, 1 << leading)
    dropped = np.where(binade < 255, 0, 23 - leading)

    def exponent(fraction: Exponents) -> Exponents:
        return rule((start + (fraction >> dropped)).astype(np.int32).view(np.float32), element)

    low, high = np.zeros(BINADES, np.int64), np.full(BINADES, SIGNIFICAND + 1, np.int64)
    below = exponent(low)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        stepped = exponent(middle) > below
        high, low = np.where(stepped, middle, high), np.where(stepped, low, middle)
    return below, exponent(np.full(BINADES, SIGNIFICAND, np.int64)), high
