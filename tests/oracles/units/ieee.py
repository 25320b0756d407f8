"""IEEE 754 add and FMA, RNE, on bits; `flush` turns a subnormal result into a zero of the same sign."""

from fractions import Fraction

from .numbers import FLOATS, Number, decode, encode, pow2, product, special_bits, special_of

#: one quiet NaN for every unit whose own is not published
QUIET_NAN = {"fp64": 0x7FF8000000000000, "fp32": 0x7FC00000, "bf16": 0x7FC0, "fp16": 0x7E00}


def fused_sum(terms: list[Number], format: str) -> int:
    """One RNE of an exact sum of any length; an exact zero is +0, a nonzero that underflows keeps its sign."""
    special = special_of(terms)
    if special:
        return special_bits(special, format, QUIET_NAN[format])
    total = sum((t.value for t in terms), Fraction(0))
    return encode(total, format, "rne", negative_zero=total < 0)


def ieee_sum(terms: list[Number], format: str, flush: bool = False, nan_bits: int | None = None) -> int:
    """One RNE of the exact sum with the IEEE sign of zero: -0 only if every term is a negative zero."""
    special = special_of(terms)
    if special:
        return special_bits(special, format, QUIET_NAN[format] if nan_bits is None else nan_bits)
    total = sum((t.value for t in terms), Fraction(0))
    negative = total < 0 if total else all(t.is_zero and t.negative for t in terms)
    bits = encode(total, format, "rne", negative)
    return flushed(bits, format) if flush else bits


def flushed(bits: int, format: str, keep_sign: bool = True) -> int:
    """Zero for a subnormal."""
    number = decode(format, bits)
    if number.kind == "finite" and abs(number.value) < pow2(FLOATS[format].emin):
        return (number.negative and keep_sign) << FLOATS[format].width - 1
    return bits


def add(x: int, y: int, format: str = "fp32", flush: bool = False) -> int:
    return ieee_sum([decode(format, x), decode(format, y)], format, flush)


def fma(a: Number, b: Number, c: int, format: str = "fp32", flush: bool = False, nan_bits: int | None = None) -> int:
    return ieee_sum([product(a, b), decode(format, c)], format, flush, nan_bits)


def fma_chain(a: list[Number], b: list[Number], c: int, format: str, nan_bits: int | None = None) -> int:
    for x, y in zip(a, b, strict=True):
        c = fma(x, y, c, format, nan_bits=nan_bits)
    return c
