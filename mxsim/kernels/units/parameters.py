"""What the kernels of matrix units are told: numbers only."""

from __future__ import annotations

from typing import NamedTuple

TRUNC, FLOOR, NEAREST, JAM = range(4)  #: what alignment does to the bits below the quantum
NEAREST_EVEN, TOWARD_ZERO, TO_ODD = range(3)  #: rounding modes
KEEP, FLUSH, FLUSH_SIGNED = range(3)  #: subnormal inputs
NO_SPECIALS, NAN_ONLY, IEEE, FNUZ = range(4)  #: codes that are not numbers
E8M0, UE4M3 = range(1, 3)  #: scale formats; 0 is none

ZERO = -10_000  #: exponent of a zero: below every number's, and still in an int16 when doubled
SPECIAL = 15_000  #: exponent of Inf (significand 1 or -1) and NaN (significand 0): above every number's; beside a zero still 5000
NUMBERS = 4_000  #: |exponent| of every finite product is below this
NEVER = 30_000  #: an exponent that nothing reaches


class Round(NamedTuple):
    """A rounding mode and the format it rounds to; see mxsim.units.rounding."""

    mode: int
    mbits: int
    emin: int
    emax: int
    flush: bool


class Decoding(NamedTuple):
    """An element format and what a unit does to it on the way in."""

    ebits: int  #: 0: two's complement byte
    mbits: int
    bias: int
    specials: int
    low_bits: int  #: cleared first (TF32 in float32: 13)
    denormals: int
    lowest: int  #: exponents are normalised down to this: emin, or -14 where operands widen to fp16
    scale: int  #: E8M0, UE4M3, or 0
    block: int  #: elements to a scale


class Chunks(NamedTuple):
    """How K, laid out in chunks of `length`, becomes one number. Roundings stand apart: numba hands no nested tuples to threads."""

    length: int
    number: int  #: of chunks
    instruction: int  #: chunks from zero to the addition of a late C; 0: C is in the sum
    interval: int  #: chunks to a promotion; 0: none
    positive_zero: bool  #: every zero is +0
    c_denormals: int
    c_emin: int  #: exponent of a subnormal C in a sum
    c_normal: int  #: exponent of the smallest normal C that the caller can give


class Fixed(NamedTuple):
    """Fixed-point reduction of a chunk: parameters of `align` and `exact`."""

    exact: bool
    fraction: int  #: fraction bits of a product's significand: x = significand * 2^(exponent - fraction)
    F: int
    e_zero: int
    align: int
    limit: int  #: products of 2^limit and above are Inf; NEVER: none
    halves: bool  #: the chunk's halves are summed apart
    presum: int  #: products to a group, 0 where there are no groups
    floored: bool  #: the C step of FlooredC, with its three numbers:
    sum_bits: int
    c_bits: int
    norm_bits: int
    drop_below: int
