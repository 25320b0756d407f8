"""Block conversion in exact arithmetic: the OCP block formats and NVFP4 under the policy "ocp".

Values are float32 bit patterns (Python ints), codes are Python ints. Where OCP MX v1.0 is silent the choices are:
scale exponents clamp to -127..127; a zero block has scale code 0; zeros and underflow keep their sign; elements
saturate; INT8 is clipped to +-127 steps; a block with NaN or Inf has scale 0xFF and elements +0.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache

from tests.oracles.numbers import (
    ELEMENTS,
    FLOAT32_NAN,
    INF,
    NAN,
    Number,
    decode,
    encode,
    floor_log2,
    from_float32,
    power_of_two,
    to_float32,
)

BLOCK_FORMATS = {
    "mxfp8_e4m3": ("e4m3", 32),
    "mxfp8_e5m2": ("e5m2", 32),
    "mxfp6_e3m2": ("e3m2", 32),
    "mxfp6_e2m3": ("e2m3", 32),
    "mxfp4_e2m1": ("e2m1", 32),
    "mxint8": ("int8", 32),
    "nvfp4": ("e2m1", 16),
}
SCALE_RULES = ("floor", "ceil", "rceil", "even")
E8M0_NAN = 0xFF
E4M3_NAN = 0x7F
ONE = 0x3F800000


def shared_exponent(amax: Fraction, name: str, rule: str) -> int:
    """The block's scale exponent before it is clamped, for amax = m * 2^e with 1 <= m < 2."""
    element = ELEMENTS[name]
    exponent = floor_log2(amax)
    significand = amax / power_of_two(exponent)
    largest_significand = element.max / power_of_two(element.emax)
    bump = {
        "floor": False,
        "ceil": significand > 1,
        "rceil": significand > largest_significand,
        "even": significand >= 2 - power_of_two(-element.mbits - 1),
    }[rule]
    return exponent - element.emax + bump


def scale_code(amax: Fraction, name: str, rule: str) -> int:
    """The E8M0 code of a block whose largest magnitude is amax."""
    if amax == 0:
        return 0
    return min(max(shared_exponent(amax, name, rule), -127), 127) + 127


def quantize_block(values: Sequence[int], name: str, rule: str, rounding: str, words: Sequence[int] | None = None) -> tuple[list[int], int]:
    """One block of float32 bits to (element codes, scale code). "stochastic" takes one random word an element."""
    numbers = [from_float32(bits) for bits in values]
    if not all(number.finite for number in numbers):
        return [0] * len(numbers), E8M0_NAN
    scale = scale_code(max(number.magnitude for number in numbers), name, rule)
    factor = power_of_two(scale - 127)
    codes = [
        encode(Number(number.sign, number.magnitude / factor), name, rounding, words[i] if words else None)
        for i, number in enumerate(numbers)
    ]
    return codes, scale


def dequantize_block(codes: Sequence[int], scale: int, name: str) -> list[int]:
    """Element codes and a scale code to float32 bits, rounded to nearest even."""
    return [dequantize(code, scale, name) for code in codes]


@cache
def dequantize(code: int, scale: int, name: str) -> int:
    """One element code under an E8M0 scale code to float32 bits."""
    factor = decode(scale, "e8m0")
    return to_float32(product(decode(code, name), factor)) if factor.finite else FLOAT32_NAN


def product(a: Number, b: Number) -> Number:
    """a * b exactly, with IEEE 754's special cases."""
    sign = a.sign ^ b.sign
    if NAN in (a.special, b.special):
        return Number(sign, special=NAN)
    if INF in (a.special, b.special):
        return Number(sign, special=NAN if Number(0) in (abs_of(a), abs_of(b)) else INF)
    return Number(sign, a.magnitude * b.magnitude)


def quotient(a: Number, b: Number) -> Number:
    """a / b exactly, with IEEE 754's special cases."""
    sign = a.sign ^ b.sign
    zero_a, zero_b = abs_of(a) == Number(0), abs_of(b) == Number(0)
    if NAN in (a.special, b.special) or (zero_a and zero_b) or (a.special == INF and b.special == INF):
        return Number(sign, special=NAN)
    if a.special == INF or zero_b:
        return Number(sign, special=INF)
    return Number(sign, Fraction(0) if b.special == INF else a.magnitude / b.magnitude)


def abs_of(number: Number) -> Number:
    return Number(0, number.magnitude, number.special)


@lru_cache(maxsize=1 << 17)
def float32_divide(a: int, b: int) -> int:
    """a / b in float32, on bits."""
    return to_float32(quotient(from_float32(a), from_float32(b)))


@lru_cache(maxsize=1 << 17)
def float32_multiply(a: int, b: int) -> int:
    """a * b in float32, on bits."""
    return to_float32(product(from_float32(a), from_float32(b)))


def nvfp4_tensor_scale(values: Sequence[int]) -> int:
    """float32 bits of amax / 2688 over the finite values; 1 where that is zero."""
    amax = max((bits & 0x7FFFFFFF for bits in values if from_float32(bits).finite), default=0)
    scale = float32_divide(amax, to_float32(Number(0, Fraction(448 * 6))))
    return scale or ONE


def nvfp4_quantize_block(
    values: Sequence[int], tensor_scale: int, rounding: str, words: Sequence[int] | None = None
) -> tuple[list[int], int]:
    """One block of float32 bits to (E2M1 codes, E4M3 scale code)."""
    if not all(from_float32(bits).finite for bits in values):
        return [0] * len(values), E4M3_NAN
    amax = max(bits & 0x7FFFFFFF for bits in values)
    wanted = float32_divide(float32_divide(amax, to_float32(Number(0, Fraction(6)))), tensor_scale)
    scale = encode(from_float32(wanted), "e4m3")
    if scale == 0:
        return [from_float32(bits).sign << 3 for bits in values], 0
    step = float32_multiply(to_float32(decode(scale, "e4m3")), tensor_scale)
    codes = [
        encode(from_float32(float32_divide(bits, step)), "e2m1", rounding, words[i] if words else None) for i, bits in enumerate(values)
    ]
    return codes, scale


def nvfp4_dequantize_block(codes: Sequence[int], scale: int, tensor_scale: int) -> list[int]:
    """E2M1 codes, an E4M3 scale code and a float32 tensor scale to float32 bits."""
    step = float32_multiply(to_float32(decode(scale, "e4m3")), tensor_scale)
    return [float32_multiply(step, to_float32(decode(code, "e2m1"))) for code in codes]
