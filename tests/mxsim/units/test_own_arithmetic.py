"""Paths that no preset has, each by an exact definition in fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import mxsim
from mxsim.errors import MxsimError
from mxsim.units.operands import OPERANDS
from mxsim.units.spec import FlooredC, MatmulUnit, UnitPath
from tests.oracles.units import described
from tests.oracles.units.numbers import Number, decode, floor_log2, pow2, product

STEPS = ("rz_fp32", "rne_fp32", "rto_fp32", "rz_e8m13", "rne_e6m9", "rto_e5m4", "rne_fp16", "rne_fp32_ftz", "rz_e5m3_ftz", "rne_e6m4_ftz")
#: fields of a kind of reduction, and what they may be
FIELDS: dict[str, dict[str, list[Any]]] = {
    "align": {
        "F": [1, 2, 3, 4, 5, 7, 9, 13, 23, 24, 30, 44],
        "align": ["trunc", "floor", "nearest", "jam"],
        "e_zero": [None, None, -21, -12, -5],
        "c": ["in_sum", "late"],
        "chunk": [1, 3, 4, 8, 16],
    },
    "exact": {"reduce": ["exact"], "c": ["in_sum", "late"], "chunk": [None, 1, 3, 8, 16, 40]},
    "floored": {
        "F": [8, 14, 24, 30],
        "c": ["floored"],
        "chunk": [2, 4, 8, 16],
        "order": ["ascending", "even_odd"],
        "align": ["trunc", "floor", "nearest", "jam"],
        "sum_bits": [8, 20, 32],
        "c_bits": [5, 8],
        "norm_bits": [3, 9, 20, 31],
        "drop_below": [None, 0, 3, 6],
    },
    "fma": {"reduce": ["fma"], "c": ["in_sum", "late"], "chains": [1, 2], "chunk": [1, 4, 7, 16]},
    "pairwise": {"reduce": ["pairwise"], "c": ["late"], "chunk": [2, 4, 8, 16]},
    "group": {
        "scaling": ["group"],
        "presum": [4, 8, 16],
        "chunk": [16, 32, 48],
        "F": [1, 3, 5, 9, 23, 35],
        "align": ["trunc", "floor", "nearest", "jam"],
        "e_zero": [None, -21, -8],
        "c": ["in_sum"],
        "within": [None, 48],
    },
}
SCALED = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4_e2m1", "mxint8", "nvfp4")
COMMON: dict[str, list[Any]] = {
    "formats": [("fp16",), ("e5m2",), ("e4m3",), ("bf16",), ("e2m3",)],
    "out": ["fp32", "fp32", "fp16"],
    "step": list(STEPS),
    "late": list(STEPS),
    "instruction": [None, None, 16, 24],
    "within": [None, None, 16, 24],
    "promote_every": [None, None, 16, 48],
    "promote": list(STEPS),
    "exponents": ["own", "own", "fp16"],
    "denormals": ["keep", "keep", "flush", "flush_signed"],
    "c_denormals": ["keep", "keep", "flush", "flush_signed"],
}


def path_of(kind: str, rng: np.random.Generator) -> UnitPath | None:
    """A path of a kind, None where the fields that were drawn are none."""
    fields = {name: values[rng.integers(len(values))] for name, values in (COMMON | FIELDS[kind]).items()}
    if kind == "group" or rng.random() < 0.4:
        format = SCALED[rng.integers(len(SCALED))]
        more = {"block": int(rng.choice([16, 32])), "int8_fraction": int(rng.choice([0, 3, 6])), "scaling": "exact"}
        fields = more | fields | {"formats": (format,)}
    if kind == "floored":
        fields["floored_c"] = FlooredC(**{name: fields.pop(name) for name in ("sum_bits", "c_bits", "norm_bits", "drop_below")})
    if fields["c"] != "late":
        fields["instruction"] = None
    try:
        return UnitPath(name=kind, nan=0x7E00, **fields)
    except MxsimError:
        return None


def elements(format: str, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Numbers of a few binades, every sixth a zero, many with few significant bits: ties and cancellations are common."""
    f = OPERANDS[format]
    spread = int(rng.choice([1, 4, 9, 14 if format in ("fp16", "e5m2", "bf16") else 6]))
    fractions = rng.integers(1, 1 << int(rng.choice([1, 2, 3, 5, 11])), shape, endpoint=True)
    x = np.ldexp(fractions.astype(np.float64), rng.integers(-spread - 8, 1 - 8, shape)) * rng.choice([-1, 0, 1, 1, -1, 1], shape)
    return np.clip(x, *((-7.5, 7.5) if format == "e2m3" else (-200, 200))).astype(f.dtype)


def blocks(path: UnitPath, format: str, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Any finite elements, or few of the largest and many zeros, under scales of a few binades; with UE4M3, zeros and subnormals too."""
    f = OPERANDS[format]
    codes = rng.integers(0, 1 << (8 if not f.ebits else 1 + f.ebits + f.mbits), shape).astype(np.uint8)
    if f.specials != "none":
        codes[codes & 0x7F >= 0x78] &= 0x83
    codes[rng.random(shape) < rng.choice([0.1, 0.7])] = 0
    low, high = (122, 131) if f.scale == "e8m0" else (0, 80)
    scales = rng.integers(low, high, (shape[0], -(-shape[1] // (path.block or 1)))).astype(np.uint8)
    return mxsim.from_codes(codes, scales, format, axis=1, block_size=path.block)


def read(path: UnitPath, format: str, code: int) -> Number:
    """An element as the path takes it: a subnormal perhaps as zero, or with the exponent that it has in fp16."""
    f, element = OPERANDS[format], "e2m1" if format == "nvfp4" else format.rpartition("_")[2].removeprefix("mx")
    if element == "int8":
        return product(decode(element, code), Number(Fraction(1), 6 - path.int8_fraction, False))
    x = decode(element, code)
    if abs(x.s) < 1 and path.denormals != "keep":
        return Number(Fraction(0), 0, False)
    if path.exponents == "fp16" and x.s:
        e = max(floor_log2(x.value), min(f.emin, -14))
        return Number(x.value / pow2(e), e, x.negative)
    return x


def numbers(path: UnitPath, x: Any, row: int) -> tuple[list[Number], list[Number]]:
    """(elements of a row, the scale of each)."""
    (format,) = path.formats
    f = OPERANDS[format]
    if not isinstance(x, mxsim.MXTensor):
        return [read(path, format, int(code)) for code in x.view(f.code)[row]], [described.ONE] * x.shape[1]
    scales = [decode(str(f.scale), int(code)) for code in x.scales[row]]
    return [read(path, format, int(code)) for code in x.codes[row]], [scales[k // x.block_size] for k in range(x.shape[1])]


@pytest.mark.parametrize("kind", FIELDS)
def test_by_fractions(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    done = finite = 0
    while done < 200:
        path = path_of(kind, rng)
        if path is None:
            continue
        done += 1
        (format,), K = path.formats, int(rng.integers(1, 60))
        a, b = (blocks(path, format, (2, K), rng) if path.scaled else elements(format, (2, K), rng) for _ in range(2))
        c = np.ldexp(rng.integers(-40, 40, (2, 2)).astype(np.float64), rng.integers(-22, 4)).astype(np.float16)
        c[rng.random((2, 2)) < 0.3] = 0
        with np.errstate(all="ignore"):
            got = mxsim.matmul(a, b.T, unit=MatmulUnit(name="own", title="own", paths=(path,), source=""), c=c, out=path.out)
        for i, j in np.ndindex(2, 2):
            (x, of_x), (y, of_y) = numbers(path, a, i), numbers(path, b, j)
            try:
                addend = Fraction(float(c[i, j]))
                if path.c_denormals != "keep" and path.out == "fp16" and abs(addend) < pow2(-14):
                    addend = Fraction(0)
                want = described.dot(path, x, y, addend, [product(*scales) for scales in zip(of_x, of_y, strict=True)])
            except OverflowError:
                continue
            finite += 1
            assert Fraction(float(got[i, j])) == want, f"{path}, K = {K}"
    assert finite > 400
