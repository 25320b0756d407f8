"""Floating point formats in exact arithmetic: decode, and encode under each rounding.

Slow and plain on purpose: Python ints and Fractions only. A number is (sign, magnitude, special), so that the two
zeros, Inf and NaN stay apart from the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from math import ldexp

INF, NAN = "inf", "nan"
FLOAT32_NAN = 0x7FC00000
FLOAT32_INF = 0x7F800000


@dataclass(frozen=True)
class Number:
    """A value: sign bit, exact magnitude, and "inf" or "nan" where it is not a number."""

    sign: int
    magnitude: Fraction = Fraction(0)
    special: str | None = None

    @property
    def finite(self) -> bool:
        return self.special is None


@dataclass(frozen=True)
class Element:
    """One row of the OCP MX v1.0 element tables, written out (nothing here is derived from anything else)."""

    name: str
    bits: int
    ebits: int
    mbits: int
    bias: int
    emax: int
    max: Fraction
    specials: str  #: "none"; "nan": the all-ones magnitude alone; "ieee": the top exponent holds Inf and NaN


ELEMENTS = {
    element.name: element
    for element in (
        Element("e5m2", 8, 5, 2, 15, 15, Fraction(57344), "ieee"),  # OCP MX v1.0, 5.3.1
        Element("e4m3", 8, 4, 3, 7, 8, Fraction(448), "nan"),  # OCP MX v1.0, 5.3.1
        Element("e3m2", 6, 3, 2, 3, 4, Fraction(28), "none"),  # OCP MX v1.0, 5.3.2
        Element("e2m3", 6, 2, 3, 1, 2, Fraction(15, 2), "none"),  # OCP MX v1.0, 5.3.2
        Element("e2m1", 4, 2, 1, 1, 2, Fraction(6), "none"),  # OCP MX v1.0, 5.3.3
        Element("int8", 8, 0, 6, 0, 0, Fraction(127, 64), "none"),  # OCP MX v1.0, 5.3.4; -2 is never written
    )
}
FLOAT32 = Element("float32", 32, 8, 23, 127, 127, (2 - Fraction(1, 2**23)) * 2**127, "ieee")
ROUNDINGS = ("nearest_even", "nearest_away", "toward_zero")


@cache
def power_of_two(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def floor_log2(magnitude: Fraction) -> int:
    """The exponent e with 2^e <= magnitude < 2^(e+1)."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return exponent if power_of_two(exponent) <= magnitude else exponent - 1


def decode_fields(code: int, element: Element) -> Number:
    """What `code` means in a sign-magnitude floating format."""
    sign, field = code >> (element.bits - 1), code & ((1 << (element.bits - 1)) - 1)
    exponent, significand = field >> element.mbits, field & ((1 << element.mbits) - 1)
    top = (1 << element.ebits) - 1
    if element.specials == "ieee" and exponent == top:
        return Number(sign, special=NAN if significand else INF)
    if element.specials == "nan" and exponent == top and significand == (1 << element.mbits) - 1:
        return Number(sign, special=NAN)
    hidden = 0 if exponent == 0 else 1 << element.mbits
    return Number(sign, (hidden + significand) * power_of_two(max(exponent, 1) - element.bias - element.mbits))


@cache
def decode(code: int, name: str) -> Number:
    """What `code` means in the element format `name`, or in e8m0."""
    if name == "e8m0":
        return Number(0, special=NAN) if code == 0xFF else Number(0, power_of_two(code - 127))
    if name == "int8":
        steps = code - 256 if code & 0x80 else code
        return Number(int(steps < 0), Fraction(abs(steps), 64))
    return decode_fields(code, ELEMENTS[name])


def quantum_exponent(magnitude: Fraction, element: Element) -> int:
    """log2 of the format's spacing at this magnitude; beyond emax the spacing keeps growing."""
    if element.ebits == 0:
        return -element.mbits
    emin = 1 - element.bias
    return (max(floor_log2(magnitude), emin) if magnitude else emin) - element.mbits


def rounded(magnitude: Fraction, element: Element, rounding: str, word: int | None = None) -> tuple[int, int]:
    """The magnitude on the format's grid, not yet saturated: (quanta, log2 of the quantum).

    `word` is the 32 random bits of "stochastic", which goes up where they are below floor(fraction * 2^32).
    """
    exponent = quantum_exponent(magnitude, element)
    dividend, divisor = magnitude.numerator << max(-exponent, 0), magnitude.denominator << max(exponent, 0)
    whole, rest = divmod(dividend, divisor)  # the fraction of a quantum is rest / divisor
    if rounding == "stochastic":
        if word is None:
            raise ValueError("stochastic rounding needs a random word")
        up = word < (rest << 32) // divisor
    else:
        up = {
            "nearest_even": 2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1),
            "nearest_away": 2 * rest >= divisor,
            "toward_zero": False,
        }[rounding]
    return whole + up, exponent


@cache
def magnitude_codes(name: str) -> dict[float, int]:
    """Every finite magnitude of an element (all are exact as Python floats) and the code of its positive number."""
    if name == "int8":
        return {steps / 64: steps for steps in range(128)}
    numbers = {code: decode(code, name) for code in range(1 << (ELEMENTS[name].bits - 1))}
    return {float(number.magnitude): code for code, number in numbers.items() if number.finite}


def encode(number: Number, name: str, rounding: str = "nearest_even", word: int | None = None) -> int:
    """The element's code. Saturates, Inf too; NaN gives a NaN code where there is one and +0 elsewhere."""
    element = ELEMENTS[name]
    if number.special == NAN:
        return {"ieee": 0x7E, "nan": 0x7F, "none": 0}[element.specials]
    magnitude = float(element.max)
    if number.finite:
        quanta, exponent = rounded(number.magnitude, element, rounding, word)
        magnitude = min(ldexp(quanta, exponent), magnitude)  # exact: a few bits, an exponent that doubles hold
    code = magnitude_codes(name)[magnitude]
    if name == "int8":
        return -code % 256 if number.sign else code
    return code | number.sign << (element.bits - 1)


@lru_cache(maxsize=1 << 17)
def from_float32(bits: int) -> Number:
    """What a float32 bit pattern means."""
    return decode_fields(bits, FLOAT32)


def to_float32(number: Number) -> int:
    """The float32 bits: rounded to nearest even, overflow to Inf as in IEEE 754, every NaN the canonical one."""
    if number.special == NAN:
        return FLOAT32_NAN
    if number.special == INF:
        return number.sign << 31 | FLOAT32_INF
    quanta, exponent = rounded(number.magnitude, FLOAT32, "nearest_even")
    if quanta == 1 << 24:
        quanta, exponent = 1 << 23, exponent + 1
    if exponent + 23 > FLOAT32.emax:
        return number.sign << 31 | FLOAT32_INF
    subnormal = quanta < 1 << 23
    exponent_field = 0 if subnormal else exponent + FLOAT32.mbits + FLOAT32.bias
    return number.sign << 31 | exponent_field << 23 | (quanta & 0x7FFFFF)
