"""Whatever arithmetic a unit's description may ask for, on finite numbers, in integers and fractions.

The names of the fields are those of mxsim.units.spec.UnitPath, from whose documentation this is written; nothing of it is imported.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from .numbers import Number, floor_log2, pow2, product, round_to, signed

Triple = tuple[Number, Number, Number]  #: of a place in K: the elements, and the product of their scales
ONE = Number(Fraction(1), 0, False)
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


def largest(terms: Sequence[Number]) -> int | None:
    """The largest exponent of a term that is not zero; None where there is none."""
    return max((t.e for t in terms if t.s), default=None)


def groups(path: Any, places: Sequence[Triple]) -> list[tuple[Number, bool]]:
    """(a group's exact sum, scaled, with the exponent of its scales alone; whether any of its products is not zero)."""
    found = []
    for first in range(0, len(places), path.presum):
        group = places[first : first + path.presum]
        scale, products = group[0][2], [product(x, y) for x, y, _ in group]
        total = sum((t.value for t in products), Fraction(0)) * scale.s
        found.append((Number(total, scale.e, total < 0), scale.s != 0 and any(t.s for t in products)))
    return found


def aligned(terms: Sequence[Number], F: int, align: str, E: int | None) -> Fraction:
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
            total += floored(aligned(part, path.F, path.align, largest(part)), E - path.F)
    both = c_exponent if E is None else max(E, c_exponent)
    total = floored(total, both - own.sum_bits)
    if own.drop_below is None or c_exponent >= both - own.drop_below:
        total += floored(c.value, both - own.c_bits)
    return floored(total, max(floor_log2(total), emin) - own.norm_bits) if total else total


def stepped(path: Any, places: Sequence[Triple], c: Fraction) -> Fraction:
    """One chunk."""
    emin = min(emin_of(path.step), emin_of(f"rne_{path.out}"))
    exponent = max(floor_log2(c), emin) if c else 0
    addend = Number(c / pow2(exponent), exponent, c < 0)
    terms = [product(product(x, y), scale) for x, y, scale in places]
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
    exponents = [t.e for t in [*terms, addend] if t.s]
    if path.scaling == "group":
        terms = [t for t, _ in groups(path, places)]
        exponents = [t.e for t, counts in groups(path, places) if counts] + ([addend.e] if c else [])
    exponents += [] if path.e_zero is None else [path.e_zero]
    return rounded(aligned([*terms, addend], path.F, path.align, max(exponents, default=None)), path.step)


def run(path: Any, places: Sequence[Triple], c: Fraction) -> Fraction:
    """From C, without promotion."""
    K = len(places)
    chunk, within = path.chunk or K, path.within or K
    starts = [s for first in range(0, K, within) for s in range(first, min(first + within, K), chunk)]
    chunks = [places[s : min(s + chunk, (s // within + 1) * within)] for s in starts]
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


def dot(path: Any, a: Sequence[Number], b: Sequence[Number], c: Fraction, scales: Sequence[Number] | None = None) -> Fraction:
    """D = C + sum_k a_k b_k scales_k, as path.out, for operands in K's order or, of floored paths, in even_odd order.

    Args: scales: of every place, the product of both operands'. Raises OverflowError where a step is Inf.
    """
    places = list(zip(a, b, scales or [ONE] * len(a), strict=True))
    if not path.promote_every:
        return rounded(run(path, places, c), f"rne_{path.out}")
    for first in range(0, len(places), path.promote_every):
        c = rounded(c + run(path, places[first : first + path.promote_every], Fraction(0)), path.promote)
    return rounded(c, f"rne_{path.out}")
