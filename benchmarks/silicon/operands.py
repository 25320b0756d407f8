"""Operands that tell one model of a matrix unit from another: the same bits from the same seed, on any machine.

A tile is what one instruction takes, see products.cu: 64 rows of A and 8 columns of B, K innermost, and a C for each of their products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.units.operands import OPERANDS

ROWS, COLUMNS, BYTES = 64, 8, 32
Codes = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Element:
    """An operand format's fields, and its codes' bits in products.cu."""

    name: str
    ebits: int
    mbits: int
    bias: int
    code: Any
    padding: int = 0  #: bits below the significand's that the hardware reads and leaves out

    @property
    def k(self) -> int:
        """Elements of one instruction's K."""
        return BYTES // np.dtype(self.code).itemsize

    @property
    def highest(self) -> int:
        """The greatest exponent field of a finite number."""
        return (1 << self.ebits) - (1 if self.name == "e4m3" else 2)

    def codes(self, sign: Codes, exponent: Codes, significand: Codes) -> Codes:
        """Codes of fields; exponents beyond those of finite numbers are drawn to their ends."""
        field = np.clip(exponent, 0, self.highest)
        if self.name == "e4m3":  # its top exponent holds numbers, and NaN where the significand is all ones
            significand = np.where((field == self.highest) & (significand == 7), 6, significand)
        bits = (sign.astype(np.uint64) << np.uint64(self.ebits + self.mbits)) | (field.astype(np.uint64) << np.uint64(self.mbits))
        return ((bits | significand.astype(np.uint64)) << np.uint64(self.padding)).astype(self.code)

    def random(self, rng: np.random.Generator, shape: tuple[int, ...], exponent: Codes | int) -> Codes:
        """Random signs and significands at the given exponent fields."""
        significand = rng.integers(0, 1 << self.mbits, shape)
        return self.codes(rng.integers(0, 2, shape), np.broadcast_to(exponent, shape), significand)

    def values(self, codes: Codes) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return codes.view(OPERANDS[self.name].dtype).astype(np.float64)

    def negated(self, codes: Codes) -> Codes:
        return codes ^ self.code(1 << (self.ebits + self.mbits + self.padding))


ELEMENTS = {
    element.name: element
    for element in (
        Element("e4m3", 4, 3, 7, np.uint8),
        Element("e5m2", 5, 2, 15, np.uint8),
        Element("fp16", 5, 10, 15, np.uint16),
        Element("bf16", 8, 7, 127, np.uint16),
        Element("tf32", 8, 10, 127, np.uint32, padding=13),
    )
}

#: One case's operands: (rng, element of A, element of B, tiles) -> codes of A (tiles, ROWS, K) and B (tiles, COLUMNS, K).
Case = Callable[[np.random.Generator, Element, Element, int], tuple[Codes, Codes]]


def any_bits(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """Every bit by itself: NaN, infinities, the bits that TF32 leaves out. In half of the tiles A has no special values but in one row."""
    left, right = (rng.integers(0, 1 << (8 * e.code().itemsize), (tiles, n, a.k), dtype=np.uint64) for e, n in ((a, ROWS), (b, COLUMNS)))
    plain_a, plain_b = finite(rng, a, b, tiles)
    is_plain = rng.integers(0, 2, tiles).astype(bool)
    left[is_plain, 1:] = plain_a[is_plain, 1:]
    right[is_plain] = plain_b[is_plain]
    return left.astype(a.code), right.astype(b.code)


def finite(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """Any finite numbers."""
    left, right = (e.random(rng, (tiles, n, e.k), rng.integers(0, 1 << e.ebits, (tiles, n, e.k))) for e, n in ((a, ROWS), (b, COLUMNS)))
    return left, right


def near(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """Exponents within 3 of one's."""
    left, right = (e.random(rng, (tiles, n, e.k), e.bias + rng.integers(-3, 4, (tiles, n, e.k))) for e, n in ((a, ROWS), (b, COLUMNS)))
    return left, right


def equal(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """One exponent in all of a row or column."""
    left, right = (e.random(rng, (tiles, n, e.k), rng.integers(0, 1 << e.ebits, (tiles, n, 1))) for e, n in ((a, ROWS), (b, COLUMNS)))
    return left, right


def cancelling(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """Every product meets its negative at another place; then one element of every row is another."""
    left, right = near(rng, a, b, tiles)
    half = a.k // 2
    left[..., half:] = left[..., :half]
    right[..., half:] = b.negated(right[..., :half])
    places = rng.permuted(np.tile(np.arange(a.k), (tiles, 1)), axis=1)[:, None]
    left, right = (np.take_along_axis(codes, np.broadcast_to(places, codes.shape), -1) for codes in (left, right))
    at = rng.integers(0, a.k, (tiles, ROWS, 1))
    np.put_along_axis(left, at, a.random(rng, at.shape, a.bias + rng.integers(-6, 4, at.shape)), -1)
    return left, right


def one_big(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """One big product among many small ones, at any place."""
    left, right = near(rng, a, b, tiles)
    spread = min(a.bias - 1, 16)
    left = a.random(rng, left.shape, a.bias + rng.integers(-spread, -spread // 2, left.shape))
    at = rng.integers(0, a.k, (tiles, ROWS, 1))
    np.put_along_axis(left, at, a.random(rng, at.shape, a.bias + rng.integers(0, spread // 2, at.shape)), -1)
    return left, right


def probes(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """Big, small and minus big at three places of zeros: what is lost tells which places are added together."""
    places = np.array([(i, j, k) for i in range(a.k) for j in range(a.k) for k in range(a.k) if len({i, j, k}) == 3])
    places = places[(np.arange(tiles * ROWS) * max(len(places) // (tiles * ROWS), 1) + rng.integers(0, len(places))) % len(places)]
    places = places.reshape(tiles, ROWS, 3)
    left = np.zeros((tiles, ROWS, a.k), a.code)
    low, high = (6, 8) if a.name == "e4m3" else (a.bias // 3, a.bias // 2 + 1)  # E4M3 has 17 binades: big ones leave small ones room below
    top = a.bias + rng.integers(low, high, (tiles, ROWS, 1))
    big = a.codes(np.zeros_like(top), top, np.zeros_like(top))
    below = rng.integers(5, min(a.bias + high - 1, 34) + 1, (tiles, ROWS, 1))
    small = a.random(rng, below.shape, top - below)
    for place, codes in zip(np.split(places, 3, -1), (big, small, a.negated(big)), strict=True):
        np.put_along_axis(left, place, codes, -1)
    powers = np.broadcast_to(b.bias + rng.integers(-4, 5, (tiles, COLUMNS, 1)), (tiles, COLUMNS, b.k)).copy()
    powers[:, COLUMNS // 2 :] = b.bias  # half of the columns are ones, the others one power of two each
    return left, b.codes(np.zeros_like(powers), powers, np.zeros_like(powers))


def sparse(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """A of a few powers of two among zeros of both signs: ties with C, exact zeros."""
    left, right = (e.random(rng, (tiles, n, e.k), rng.integers(0, 1 << e.ebits, (tiles, n, e.k))) for e, n in ((a, ROWS), (b, COLUMNS)))
    left &= a.code(~np.uint64((1 << (a.mbits + a.padding)) - 1) & np.uint64(a.code(-1 & (1 << 8 * a.code().itemsize) - 1)))
    keep = rng.random(left.shape) < 2.5 / a.k
    return np.where(keep, left, left & a.code(1 << (a.ebits + a.mbits + a.padding))), right


def subnormal(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """A of the lowest two exponent fields; B subnormal, near one, or the largest."""
    left = a.random(rng, (tiles, ROWS, a.k), rng.integers(0, 2, (tiles, ROWS, a.k)))
    start = rng.choice(np.array([0, b.bias, b.highest - 1]), (tiles, COLUMNS, 1))
    return left, b.random(rng, (tiles, COLUMNS, b.k), start + rng.integers(0, 2, (tiles, COLUMNS, b.k)))


def tiny(rng: np.random.Generator, a: Element, b: Element, tiles: int) -> tuple[Codes, Codes]:
    """Products below every normal number of FP32, where the format has them: the exponent of a zero term shows there alone, with C zero."""
    wide = a.ebits == 8
    left = a.random(rng, (tiles, ROWS, a.k), rng.integers(46, 56, (tiles, ROWS, 1)) + rng.integers(0, 4, (tiles, ROWS, a.k)) if wide else 1)
    right = b.random(rng, (tiles, COLUMNS, b.k), rng.integers(50, 62, (tiles, COLUMNS, b.k)) if wide else 1)
    return left, right


CASES: tuple[Case, ...] = (any_bits, finite, near, equal, cancelling, one_big, probes, sparse, subnormal, tiny)


def addends(rng: np.random.Generator, a: Element, b: Element, left: Codes, right: Codes) -> npt.NDArray[np.float32]:
    """(tiles, ROWS, COLUMNS) C, each of one of seven kinds: what it is to the sum of the products decides which bits of it are cut."""
    with np.errstate(all="ignore"):
        sums = np.zeros((len(left), ROWS, COLUMNS))
        for x, y in zip(*(np.moveaxis(e.values(codes), -1, 0) for e, codes in ((a, left), (b, right))), strict=True):
            sums += x[:, :, None] * y[:, None, :]  # in order: a library's product would depend on the machine
        sums = np.where(np.isfinite(sums), sums, 1.0)
        exponents = np.frexp(np.abs(sums).clip(2.0**-140, 2.0**120))[1] - 1
        noise = rng.integers(0, 1 << 23, sums.shape) * 2.0**-23 + 1.0
        sign = rng.choice(np.array([-1.0, 1.0]), sums.shape)
        kinds = [
            sign * 0.0,
            rng.integers(0, 1 << 32, sums.shape, dtype=np.uint64).astype(np.uint32).view(np.float32).astype(np.float64),
            sums * noise,
            -sums,
            np.ldexp(sign * noise, exponents + rng.integers(-30, 31, sums.shape)),
            np.ldexp(sign * noise, rng.choice(np.array([-140, -127, -24, -16]), sums.shape)),
            np.ldexp(sign * noise, exponents + rng.choice(np.array([11, 14, 24]), sums.shape)),  # the sum lies at C's last place
        ]
        return np.choose(rng.integers(0, len(kinds), sums.shape), kinds).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Operands of a launch."""

    a: Codes  #: (tiles, ROWS, steps * K)
    b: Codes  #: (tiles, COLUMNS, steps * K)
    c: npt.NDArray[np.float32]  #: (tiles, ROWS, COLUMNS)
    case: npt.NDArray[np.int64]  #: (tiles,) place in CASES


def whole_numbers(a: str, b: str, tiles: int, steps: int) -> tuple[Tiles, npt.NDArray[np.int64]]:
    """Tiles of small whole numbers, and A B + C of them: exact in every format and unit, whatever the order."""
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-2, 3, (tiles, n, steps * ELEMENTS[e].k)) for n, e in ((ROWS, a), (COLUMNS, b)))
    c = rng.integers(-64, 65, (tiles, ROWS, COLUMNS))
    left, right = (np.ascontiguousarray(v.astype(np.float32).astype(OPERANDS[e].dtype).view(ELEMENTS[e].code)) for v, e in ((x, a), (y, b)))
    return Tiles(a=left, b=right, c=c.astype(np.float32), case=np.zeros(tiles, np.int64)), x @ y.swapaxes(1, 2) + c


def tiles_of(a: str, b: str, tiles: int, steps: int, seed: int) -> Tiles:
    """Args: a, b: names of ELEMENTS, of one width.  steps: instructions along K; each step's operands are of the tile's case."""
    left, right = ELEMENTS[a], ELEMENTS[b]
    rng = np.random.default_rng([seed, steps, *map(ord, f"{a} {b}")])
    case = np.arange(tiles) * len(CASES) // tiles
    parts = []
    for place, made in enumerate(CASES):
        count = int((case == place).sum())
        pieces = [made(rng, left, right, count) for _ in range(steps)]
        parts.append(tuple(np.concatenate(side, -1) for side in zip(*pieces, strict=True)))
    codes = [np.ascontiguousarray(np.concatenate(side)) for side in zip(*parts, strict=True)]
    return Tiles(a=codes[0], b=codes[1], c=addends(rng, left, right, *codes), case=case)
