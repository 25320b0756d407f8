"""AMD matrix cores: CDNA1 exact, CDNA2 pairwise with flushing, CDNA3 truncated and floored."""

from fractions import Fraction
from math import floor, trunc

from . import ieee
from .numbers import Number, decode, encode, floor_log2, pow2, product, special_bits, special_of

NAN_CDNA3 = 0x7FFFFFFF
FNUZ = ("e4m3fnuz", "e5m2fnuz")


def cdna1(a: list[Number], b: list[Number], format: str, c: int) -> int:
    L = {"fp16": 4, "bf16": 2}[format]
    for k in range(0, len(a), L):
        terms = [product(x, y) for x, y in zip(a[k : k + L], b[k : k + L], strict=True)]
        c = ieee.fused_sum([*terms, decode("fp32", c)], "fp32")
    return c


def cdna2(a: list[int], b: list[int], format: str, c: int) -> int:
    """Pairwise tree over 4 products; every step fp32 RNE, subnormals flushed to zero of the same sign."""
    if format not in ("fp16", "bf16"):
        raise ValueError(f"amd_cdna2 has no {format} path")
    c = ieee.flushed(c, "fp32", keep_sign=False)
    for k in range(0, len(a), 4):
        products = []
        for x, y in zip(a[k : k + 4], b[k : k + 4], strict=True):
            x_flushed, y_flushed = (decode(format, ieee.flushed(v, format, keep_sign=False)) for v in (x, y))
            products.append(ieee.ieee_sum([product(x_flushed, y_flushed)], "fp32", flush=True))
        products += [0] * (4 - len(products))
        low, high = (ieee.add(products[i], products[i + 1], flush=True) for i in (0, 2))
        c = ieee.add(c, ieee.add(low, high, flush=True), flush=True)
    return c


def truncated(terms: list[Number], F: int) -> tuple[Fraction, int | None]:
    """(S*2^E, E) = TS over the nonzero products; E is None where there are none."""
    nonzero = [t for t in terms if t.s]
    if not nonzero:
        return Fraction(0), None
    E = max(t.e for t in nonzero)
    return sum(trunc(t.value / pow2(E - F)) for t in nonzero) * pow2(E - F), E


def floored(x: Fraction, e: int) -> Fraction:
    """x floored (toward minus infinity) to a multiple of 2^e."""
    return floor(x / pow2(e)) * pow2(e)


def overflowed(p: Number) -> Number:
    if p.kind == "finite" and abs(p.value) >= pow2(128):
        return Number(Fraction(0), 0, p.negative, "inf")
    return p


def cdna3(a: list[Number], b: list[Number], format: str, c: int) -> int:
    L = {"fp16": 8, "bf16": 8, "tf32": 4}[format]
    for k in range(0, len(a), L):
        terms = [overflowed(product(x, y)) for x, y in zip(a[k : k + L], b[k : k + L], strict=True)]
        special = special_of([*terms, decode("fp32", c)])
        if special:
            c = special_bits(special, "fp32", NAN_CDNA3)
        else:
            c = add_c(*truncated(terms, 24), decode("fp32", c), drop_far_c=False)
    return c


def cdna3_fp8(a: list[Number], b: list[Number], c: int) -> int:
    """Even and odd indices summed apart, then floored together at 24 bits below the larger exponent."""
    for k in range(0, len(a), 16):
        terms = [product(x, y) for x, y in zip(a[k : k + 16], b[k : k + 16], strict=True)]
        special = special_of([*terms, decode("fp32", c)])
        if special:
            c = special_bits(special, "fp32", NAN_CDNA3)
            continue
        (even, e_even), (odd, e_odd) = truncated(terms[0::2], 24), truncated(terms[1::2], 24)
        E = max((e for e in (e_even, e_odd) if e is not None), default=None)
        S = Fraction(0) if E is None else floored(even, E - 24) + floored(odd, E - 24)
        c = add_c(S, E, decode("fp32", c), drop_far_c=True)
    return c


def add_c(S: Fraction, E: int | None, c: Number, drop_far_c: bool) -> int:
    """The C step: S floored to 2^(E'-32), C to 2^(E'-24), the sum to 31 fraction bits, then RNE."""
    E_c = c.e if E is None else max(E, c.e)
    addend = Fraction(0) if drop_far_c and c.e < E_c - 25 else floored(c.value, E_c - 24)
    total = floored(S, E_c - 32) + addend
    if total == 0:
        return 0
    total = floored(total, max(floor_log2(total), -126) - 31)
    return encode(total, "fp32", "rne", negative_zero=total < 0)
