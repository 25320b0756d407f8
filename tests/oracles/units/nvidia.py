"""NVIDIA tensor cores: T-FDPA, ST-FDPA, GST-FDPA, and FP8 mma.sync by widening."""

from dataclasses import dataclass
from fractions import Fraction
from math import trunc

from .numbers import (
    FLOATS,
    Number,
    decode,
    encode,
    floor_log2,
    pow2,
    product,
    round_to,
    special_bits,
    special_of,
    to_bits,
)

NAN = {"fp32": 0x7FFFFFFF, "fp16": 0x7FFF}


@dataclass(frozen=True)
class Path:
    """One cell of the table of architectures: chunk length, fraction bits, FP32 rounding, exponent of zeros."""

    L: int
    F: int
    fp32: str  # RZ-FP32 or RZ-E8M13
    e_zero: dict[str, int]


def path(L: int, F: int, e_zero_fp32: int, e_zero_fp16: int, fp32: str = "RZ-FP32") -> Path:
    return Path(L, F, fp32, {"fp32": e_zero_fp32, "fp16": e_zero_fp16})


VOLTA = {"fp16": path(4, 23, -131, -19)}
TURING = {"fp16": path(8, 24, -132, -20)}
AMPERE = {"fp16": path(8, 24, -132, -20), "bf16": path(8, 24, -132, -20), "tf32": path(4, 24, -132, -20)}
ADA = AMPERE | {"fp8": path(16, 13, -132, -20, "RZ-E8M13")}
HOPPER_MMA = {"fp16": path(16, 25, -133, -21), "bf16": path(16, 25, -133, -21), "tf32": path(8, 25, -133, -21)}
HOPPER_WGMMA = HOPPER_MMA | {"fp8": path(32, 13, -133, -21, "RZ-E8M13")}
BLACKWELL = HOPPER_MMA | {"fp8": path(32, 25, -133, -21), "fp6_fp4": path(32, 25, -133, -21)}

PATHS = {
    "nvidia_volta": VOLTA,
    "nvidia_turing": TURING,
    "nvidia_ampere": AMPERE,
    "nvidia_ada": ADA,
    "nvidia_hopper_wgmma": HOPPER_WGMMA,
    "nvidia_hopper_mma": HOPPER_MMA,
    "nvidia_blackwell": BLACKWELL,
    "nvidia_blackwell_mma": HOPPER_MMA,
}
WIDENING = ("nvidia_hopper_mma", "nvidia_blackwell_mma")
FP8 = ("e4m3", "e5m2")
FP6_FP4 = ("e3m2", "e2m3", "e2m1")


def truncated_sum(terms: list[Number], F: int, e_zero: int) -> Fraction:
    """TS: every term cut toward zero to a multiple of 2^(E-F), E the largest exponent; then the exact sum."""
    E = max(e_zero if t.s == 0 else t.e for t in terms)
    quantum = pow2(E - F)
    return sum(trunc(t.value / quantum) for t in terms) * quantum


def rounded(x: Fraction, rho: str, out: str) -> int:
    """RZ-FP32, RZ-E8M13 or RNE-FP16; every zero is +0."""
    if out == "fp16":
        return encode(x, "fp16", "rne")
    return to_bits(round_to(x, 13 if rho == "RZ-E8M13" else 23, -126, "rz"), "fp32")


def fused(terms: list[Number], F: int, e_zero: int, rho: str, out: str) -> int:
    special = special_of(terms)
    if special:
        return special_bits(special, out, NAN[out])
    return rounded(truncated_sum(terms, F, e_zero), rho, out)


def family_of(a_format: str, b_format: str) -> str:
    if a_format in FP8 and b_format in FP8:
        return "fp8"
    if a_format in FP8 + FP6_FP4 and b_format in FP8 + FP6_FP4:
        return "fp6_fp4"
    return a_format if a_format == b_format else "mixed"


def t_fdpa(unit: str, a: list[Number], b: list[Number], family: str, c: int, out: str) -> int:
    p = PATHS[unit].get(family)
    if p is None or (out == "fp16" and family in ("bf16", "tf32")):
        raise ValueError(f"{unit} has no {family} path with {out} output")
    for k in range(0, len(a), p.L):
        terms = [product(x, y) for x, y in zip(a[k : k + p.L], b[k : k + p.L], strict=True)]
        c = fused([*terms, decode(out, c)], p.F, p.e_zero[out], p.fp32, out)
    return c


def widened(x: Number) -> Number:
    """The same number as an fp16, whose exponent reaches down to -14: E4M3 subnormals become normal."""
    if x.kind != "finite" or x.s == 0:
        return x
    e = max(floor_log2(x.value), FLOATS["fp16"].emin)
    return Number(x.value / pow2(e), e, x.negative)


def widening_mma(a: list[Number], b: list[Number], c: int, out: str) -> int:
    """FP8 mma.sync: two fp16 steps of 16 terms from zero (k mod 4 in {0, 1}, then {2, 3}), C added last with RNE.

    The steps are the fp16 path with the output format asked for; H100 and B200 round each to fp16 for fp16 output.
    """
    p = HOPPER_MMA["fp16"]
    for k in range(0, len(a), 32):
        chunk = [product(widened(x), widened(y)) for x, y in zip(a[k : k + 32], b[k : k + 32], strict=True)]
        d = 0
        for phase in ((0, 1), (2, 3)):
            terms = [t for i, t in enumerate(chunk) if i % 4 in phase]
            d = fused([*terms, decode(out, d)], p.F, p.e_zero[out], p.fp32, out)
        c = last_add(decode(out, d), decode(out, c), out)
    return c


def last_add(d: Number, c: Number, out: str) -> int:
    special = special_of([d, c])
    if special:
        return special_bits(special, out, NAN[out])
    return encode(d.value + c.value, out, "rne")


def st_fdpa(a: list[Number], b: list[Number], sa: list[Number], sb: list[Number], block: int, c: int) -> int:
    """MXFP8, MXFP6, MXFP4 mixed: both scale exponents are added to every product's exponent before alignment."""
    L, F, e_zero = 32, 25, -133
    for k in range(0, len(a), L):
        scale = product(sa[k // block], sb[k // block])
        terms = [product(product(x, y), scale) for x, y in zip(a[k : k + L], b[k : k + L], strict=True)]
        c = fused([*terms, decode("fp32", c)], F, e_zero, "RZ-FP32", "fp32")
    return c


def gst_fdpa(a: list[Number], b: list[Number], sa: list[Number], sb: list[Number], block: int, c: int) -> int:
    """mxf4 and mxf4nvf4: exact sums of 16, placed by the exponents of their scales alone."""
    L, F, G, e_zero = 64, 35, 16, -139
    for k in range(0, len(a), L):
        terms = []
        for g in range(k, min(k + L, len(a)), G):
            products = [product(x, y) for x, y in zip(a[g : g + G], b[g : g + G], strict=True)]
            scale = product(sa[g // block], sb[g // block])
            p = sum((t.value for t in products), Fraction(0))
            # A group of zeros, or a zero scale, has exponent e_zero; a sum that cancels keeps the scale's.
            e = e_zero if all(t.s == 0 for t in products) or scale.is_zero else scale.e
            terms.append(Number(p * scale.s, e, False, scale.kind))
        c = grouped(terms, decode("fp32", c), F, e_zero)
    return c


def grouped(terms: list[Number], c: Number, F: int, e_zero: int) -> int:
    """TS over the groups and C, where a zero term keeps the exponent it was given."""
    special = special_of([*terms, c])
    if special:
        return special_bits(special, "fp32", NAN["fp32"])
    E = max([t.e for t in terms] + [e_zero if c.s == 0 else c.e])
    quantum = pow2(E - F)
    return rounded(sum(trunc(t.value / quantum) for t in [*terms, c]) * quantum, "RZ-FP32", "fp32")
