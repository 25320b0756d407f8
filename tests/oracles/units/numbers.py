"""Exact numbers for the unit oracle: what a code means, and how a real number becomes bits.

Everything is a Python integer or a Fraction; nothing here rounds except `round_to`, which is told how.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Literal

Mode = Literal["rne", "rz", "rto"]


@dataclass(frozen=True)
class Float:
    """A binary floating-point format; `specials` says which codes are not numbers."""

    ebits: int
    mbits: int
    bias: int
    specials: Literal["ieee", "nan_only", "none", "fnuz"]

    @property
    def emin(self) -> int:
        return 1 - self.bias

    @property
    def width(self) -> int:
        return 1 + self.ebits + self.mbits


# OCP OFP8, OCP MX v1.0 section 5.3, IEEE 754, and the fnuz types of AMD CDNA3.
FLOATS = {
    "fp64": Float(11, 52, 1023, "ieee"),
    "fp32": Float(8, 23, 127, "ieee"),
    "tf32": Float(8, 23, 127, "ieee"),  # held in fp32; `decode` clears the low 13 bits
    "bf16": Float(8, 7, 127, "ieee"),
    "fp16": Float(5, 10, 15, "ieee"),
    "e5m2": Float(5, 2, 15, "ieee"),
    "e4m3": Float(4, 3, 7, "nan_only"),
    "e3m2": Float(3, 2, 3, "none"),
    "e2m3": Float(2, 3, 1, "none"),
    "e2m1": Float(2, 1, 1, "none"),
    "e5m2fnuz": Float(5, 2, 16, "fnuz"),
    "e4m3fnuz": Float(4, 3, 8, "fnuz"),
}


@cache
def pow2(e: int) -> Fraction:
    return Fraction(2**e) if e >= 0 else Fraction(1, 2**-e)


def floor_log2(x: Fraction) -> int:
    """floor(log2 |x|), from integers alone."""
    n, d = abs(x.numerator), x.denominator
    e = n.bit_length() - d.bit_length()
    return e if (n >= d << e if e >= 0 else n << -e >= d) else e - 1


@dataclass(frozen=True)
class Number:
    """dec(x) = (s, e): x = s * 2^e exactly; or an infinity, or NaN. `negative` is the sign bit, of zeros too."""

    s: Fraction
    e: int
    negative: bool
    kind: Literal["finite", "inf", "nan"] = "finite"

    @property
    def value(self) -> Fraction:
        return self.s * pow2(self.e)

    @property
    def is_zero(self) -> bool:
        return self.kind == "finite" and self.s == 0


ZERO = Number(Fraction(0), 0, False)


@lru_cache(maxsize=1 << 16)
def decode(format: str, code: int) -> Number:
    """The number a code means; a subnormal keeps the exponent emin and |s| < 1."""
    if format == "e8m0":
        return Number(Fraction(1), code - 127, False, "nan" if code == 0xFF else "finite")
    if format == "ue4m3":
        return decode("e4m3", code & 0x7F)
    if format == "int8":
        integer = code - 256 if code & 0x80 else code
        return Number(Fraction(integer, 64), 0, integer < 0)
    if format == "tf32":
        code &= ~0x1FFF
    f = FLOATS[format]
    negative = bool(code >> (f.width - 1))
    exponent = code >> f.mbits & (1 << f.ebits) - 1
    mantissa = code & (1 << f.mbits) - 1
    top = exponent == (1 << f.ebits) - 1
    if f.specials == "ieee" and top:
        return Number(Fraction(0), 0, negative, "nan" if mantissa else "inf")
    if f.specials == "nan_only" and top and mantissa == (1 << f.mbits) - 1:
        return Number(Fraction(0), 0, negative, "nan")
    if f.specials == "fnuz" and code == 1 << f.width - 1:
        return Number(Fraction(0), 0, negative, "nan")
    if exponent == 0:
        return Number(signed(Fraction(mantissa, 1 << f.mbits), negative), f.emin, negative)
    return Number(signed(1 + Fraction(mantissa, 1 << f.mbits), negative), exponent - f.bias, negative)


def signed(magnitude: Fraction, negative: bool) -> Fraction:
    return -magnitude if negative else magnitude


def product(a: Number, b: Number) -> Number:
    """(sa*sb, ea+eb): exact and not renormalised."""
    negative = a.negative != b.negative
    if a.kind == "nan" or b.kind == "nan":
        return Number(Fraction(0), 0, negative, "nan")
    if a.kind == "inf" or b.kind == "inf":
        return Number(Fraction(0), 0, negative, "nan" if a.is_zero or b.is_zero else "inf")
    return Number(a.s * b.s, a.e + b.e, negative)


def special_of(terms: list[Number]) -> Literal["", "nan", "+inf", "-inf"]:
    """What a sum of these terms is if it is no real number."""
    infinities = {t.negative for t in terms if t.kind == "inf"}
    if any(t.kind == "nan" for t in terms) or len(infinities) == 2:
        return "nan"
    return ("-inf" if infinities.pop() else "+inf") if infinities else ""


def round_to(x: Fraction, mbits: int, emin: int, mode: Mode) -> Fraction:
    """x with mbits + 1 significant bits and quantum >= 2^(emin - mbits), exponent unbounded above."""
    if x == 0:
        return x
    quantum = pow2(max(floor_log2(x), emin) - mbits)
    units, rest = divmod(abs(x), quantum)
    if mode == "rne":
        units += 2 * rest > quantum or (2 * rest == quantum and units & 1)
    elif mode == "rto":
        units |= rest != 0
    return signed(units * quantum, x < 0)


def to_bits(x: Fraction, format: str, negative_zero: bool = False) -> int:
    """The code of x, which the format must hold exactly unless it is too large: then Inf."""
    f = FLOATS[format]
    sign = (x < 0 or (x == 0 and negative_zero)) << (f.width - 1)
    if abs(x) >= pow2(1 << f.ebits - 1):
        return sign | inf_bits(format)
    if x == 0:
        return sign
    e = max(floor_log2(x), f.emin)
    integer = abs(x) / pow2(e - f.mbits)
    if integer.denominator != 1:
        raise ValueError(f"{x} is no {format} number")
    # The hidden bit of a normal number carries into the exponent field.
    return sign | (e - f.emin << f.mbits) + integer.numerator


def inf_bits(format: str) -> int:
    f = FLOATS[format]
    return (1 << f.ebits) - 1 << f.mbits


def encode(x: Fraction, format: str, mode: Mode = "rne", negative_zero: bool = False) -> int:
    """Round x to the format. `negative_zero` is the sign of a zero result, from x itself or from underflow."""
    f = FLOATS[format]
    return to_bits(round_to(x, f.mbits, f.emin, mode), format, negative_zero)


def special_bits(special: str, format: str, nan_bits: int) -> int:
    if special == "nan":
        return nan_bits
    return inf_bits(format) | (special == "-inf") << FLOATS[format].width - 1
