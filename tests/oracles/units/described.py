"""Whatever arithmetic a unit's description may ask for, on finite numbers, in integers and fractions.

The names of the fields are those of mxsim.units.spec.UnitPath, from whose documentation this is written; nothing of it is imported.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from .numbers import Number, floor_log2, pow2, product, round_to, signed

WIDTHS = {"fp32": (8, 23), "fp16": (5, 10)}


def widths(name: str) -> tuple[str, int, int, bool]:
    """(mode, exponent bits, significand bits, flushed) of a rounding's name."""
    mode, e, m, named, flush = re.fullmatch(r"([a-z]+)_(?:e(\d+)m(\d+)|([a-z]+\d+))(_ftz)?", name).groups()  # type: ignore[union-attr]
    return (mode, *(WIDTHS[named] if named else (int(e), int(m))), bool(flush))


def emin_of(name: str) -> int:
    return 2 - (1 << widths(name)[1] - 1)


def rounded(x: Fraction, name: str) -> Fraction:
    """Raises OverflowError where that is Inf."""
    mode, ebits, mbits, flush = widths(name)
    value = round_to(x, mbits, emin_of(name), mode)  # type: ignore[arg-type]
    if abs(value) >= pow2(1 << ebits - 1):
        raise OverflowError(name)
    return Fraction(0) if flush and abs(value) < pow2(emin_of(name)) else value


def units_of(x: Fraction, align: str) -> int:
    """x in whole units."""
    if align == "trunc":
        return math.trunc(x)
    if align == "floor":
        return math.floor(x)
    if align == "nearest":
        return round(x)  # Python's: ties to even
    magnitude = math.floor(abs(x))
    return int(signed(Fraction(magnitude | (magnitude != abs(x))), x < 0))


def largest(terms: Sequence[Number], at_least: int | None = None) -> int | None:
    """The largest exponent of a term that is not zero; None where there is none."""
    exponents = [t.e for t in terms if t.s] + ([] if at_least is None else [at_least])
    return max(exponents, default=None)


def aligned(terms: Sequence[Number], F: int, align: str, e_zero: int | None = None) -> Fraction:
    E = largest(terms, e_zero)
    return Fraction(0) if E is None else sum(units_of(t.value / pow2(E - F), align) for t in terms) * pow2(E - F)


def floored(x: Fraction, exponent: int) -> Fraction:
    """x as a multiple of 2^exponent, toward minus infinity."""
    return math.floor(x / pow2(exponent)) * pow2(exponent)


def floored_step(path: Any, terms: Sequence[Number], c: Number) -> Fraction:
    """The C step of FlooredC, after the products' sum or, for even_odd, the sums of its even and odd places."""
    own, emin = path.floored_c, emin_of(path.step)
    E, c_exponent = largest(terms), c.e if c.s else emin
    total = Fraction(0)
    for part in (terms[::2], terms[1::2]) if path.order == "even_odd" else (terms,):
        if E is not None:
            total += floored(aligned(part, path.F, path.align), E - path.F)
    both = c_exponent if E is None else max(E, c_exponent)
    total = floored(total, both - own.sum_bits)
    if own.drop_below is None or c_exponent >= both - own.drop_below:
        total += floored(c.value, both - own.c_bits)
    return floored(total, max(floor_log2(total), emin) - own.norm_bits) if total else total


def stepped(path: Any, pairs: Sequence[tuple[Number, Number]], c: Fraction) -> Fraction:
    """One chunk."""
    emin = min(emin_of(path.step), emin_of(f"rne_{path.out}"))
    exponent = max(floor_log2(c), emin) if c else 0
    addend = Number(c / pow2(exponent), exponent, c < 0)
    terms = [product(x, y) for x, y in pairs]
    if path.reduce == "exact":
        return rounded(sum((t.value for t in terms), c), path.step)
    if path.reduce == "fma":
        chains = [c, Fraction(0)]
        for place, t in enumerate(terms):
            chains[place % path.chains] = rounded(chains[place % path.chains] + t.value, path.step)
        return rounded(sum(chains), path.step)
    if path.reduce == "pairwise":
        tree = [rounded(t.value, path.step) for t in terms] + [Fraction(0)] * (path.chunk - len(terms))
        while len(tree) > 1:
            tree = [rounded(x + y, path.step) for x, y in zip(tree[::2], tree[1::2], strict=True)]
        return tree[0]
    if path.c == "floored":
        return rounded(floored_step(path, terms, addend), path.step)
    return rounded(aligned([*terms, addend], path.F, path.align, path.e_zero), path.step)


def run(path: Any, pairs: Sequence[tuple[Number, Number]], c: Fraction) -> Fraction:
    """Pairs of K, from C: no promotion."""
    chunk = path.chunk or len(pairs)
    within = path.within or len(pairs)
    starts = [s for first in range(0, len(pairs), within) for s in range(first, min(first + within, len(pairs)), chunk)]
    chunks = [pairs[s : min(s + chunk, (s // within + 1) * within)] for s in starts]
    if path.c != "late":
        for part in chunks:
            c = stepped(path, part, c)
        return c
    d = Fraction(0)
    for part, after in zip(chunks, [*starts[1:], None], strict=True):
        d = stepped(path, part, d)
        if after is None or path.instruction is None or after % path.instruction == 0:
            c, d = rounded(d + c, path.late), Fraction(0)
    return c


def dot(path: Any, a: Sequence[Number], b: Sequence[Number], c: Fraction) -> Fraction:
    """D = C + sum_k a_k b_k, as path.out; ascending or even_odd order, within = None or a multiple of K's parts.

    Raises OverflowError where a step is Inf.
    """
    pairs = list(zip(a, b, strict=True))
    if not path.promote_every:
        return rounded(run(path, pairs, c), f"rne_{path.out}")
    for first in range(0, len(pairs), path.promote_every):
        c = rounded(c + run(path, pairs[first : first + path.promote_every], Fraction(0)), path.promote)
    return rounded(c, f"rne_{path.out}")
