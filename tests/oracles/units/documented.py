"""Units known from documents or RTL rather than from silicon, with the gaps closed in CHOICES.md."""

from fractions import Fraction

from . import ieee
from .numbers import Number, decode, pow2, product, round_to, special_bits, special_of, to_bits

MXDOTP_LANES = {"e4m3": 8, "e5m2": 8, "e3m2": 11, "e2m3": 11, "e2m1": 16, "int8": 8}
BULKNORM_LANES = {"bf16": 16, "e4m3": 32, "e5m2": 32}


def pulp_mxdotp(a: list[Number], b: list[Number], format: str, sa: list[Number], sb: list[Number], block: int, c: int, out: str) -> int:
    """A block in one or more instructions; each adds its exact scaled sum to C and rounds once."""
    # The unit's INT8 elements are integers: it leaves out the factor 2^-6 of each.
    omitted = Number(Fraction(1), 12 if format == "int8" else 0, False)
    for first in range(0, len(a), block):
        scale = product(product(sa[first // block], sb[first // block]), omitted)
        end = min(first + block, len(a))
        for k in range(first, end, MXDOTP_LANES[format]):
            lanes = slice(k, min(k + MXDOTP_LANES[format], end))
            terms = [product(product(x, y), scale) for x, y in zip(a[lanes], b[lanes], strict=True)]
            c = ieee.fused_sum([*terms, decode(out, c)], out)
    return c


def riscv_bulknorm(a: list[Number], b: list[Number], format: str, c: int) -> int:
    n = BULKNORM_LANES[format]
    guard = (n - 1).bit_length()
    for k in range(0, len(a), n):
        terms = [product(x, y) for x, y in zip(a[k : k + n], b[k : k + n], strict=True)]
        c = add_to_odd(bulk_normalised(terms, 23 + guard), decode("fp32", c))
    return c


def bulk_normalised(terms: list[Number], fraction_bits: int) -> Number:
    """Align to the largest product exponent, jamming what is cut off into the last bit; round the sum to odd."""
    special = special_of(terms)
    if special:
        return decode("fp32", special_bits(special, "fp32", ieee.QUIET_NAN["fp32"]))
    nonzero = [t for t in terms if t.s]
    if not nonzero:
        return decode("fp32", 0)
    quantum = pow2(max(t.e for t in nonzero) - fraction_bits)
    total = sum(jammed(t.value, quantum) for t in nonzero) * quantum
    return decode("fp32", to_odd(total))


def jammed(x: Fraction, quantum: Fraction) -> int:
    units, rest = divmod(abs(x), quantum)
    magnitude = int(units) | (rest != 0)
    return -magnitude if x < 0 else magnitude


def to_odd(x: Fraction) -> int:
    """Round to odd; too large is Inf, not the largest number."""
    return to_bits(round_to(x, 23, -126, "rto"), "fp32")


def add_to_odd(d: Number, c: Number) -> int:
    special = special_of([d, c])
    if special:
        return special_bits(special, "fp32", ieee.QUIET_NAN["fp32"])
    return to_odd(d.value + c.value)


def arm_fp8_fdot(a: list[Number], b: list[Number], c: int, out: str) -> int:
    ways = {"fp32": 4, "fp16": 2}[out]
    for k in range(0, len(a), ways):
        terms = [product(x, y) for x, y in zip(a[k : k + ways], b[k : k + ways], strict=True)]
        c = ieee.fused_sum([*terms, decode(out, c)], out)
    return c


def intel_amx(a: list[int], b: list[int], format: str, c: int) -> int:
    """A tile instruction: FMA chains from +0, then C added; every result flushed, bf16 operands too."""
    if format == "bf16":
        a, b = ([ieee.flushed(x, "bf16") for x in v] for v in (a, b))
    x, y = ([decode(format, code) for code in v] for v in (a, b))
    tile_k, chains = (16, 1) if format == "tf32" else (32, 2)
    for k in range(0, len(a), tile_k):
        t = [0] * chains
        for i in range(k, min(k + tile_k, len(a))):
            t[i % chains] = ieee.fma(x[i], y[i], t[i % chains], flush=True)
        tile = ieee.add(t[0], t[1], flush=True) if chains == 2 else t[0]
        c = ieee.add(ieee.flushed(c, "fp32"), tile, flush=True)
    return c
