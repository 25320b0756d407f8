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
from tests.oracles.units.numbers import decode

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
}
COMMON: dict[str, list[Any]] = {
    "formats": [("fp16",), ("e5m2",), ("e4m3",), ("bf16",), ("e2m3",)],
    "out": ["fp32", "fp32", "fp16"],
    "step": list(STEPS),
    "late": list(STEPS),
    "instruction": [None, None, 16, 24],
    "within": [None, None, 16, 24],
    "promote_every": [None, None, 16, 48],
    "promote": list(STEPS),
}


def path_of(kind: str, rng: np.random.Generator) -> UnitPath | None:
    """A path of a kind, None where the fields that were drawn are none."""
    fields = {name: values[rng.integers(len(values))] for name, values in (COMMON | FIELDS[kind]).items()}
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
    largest = {"e2m3": 7.5}.get(format, 200.0)
    return np.clip(x, -largest, largest).astype(f.dtype)


@pytest.mark.parametrize("kind", FIELDS)
def test_by_fractions(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    done = finite = 0
    while done < 150:
        path = path_of(kind, rng)
        if path is None:
            continue
        done += 1
        (format,), K = path.formats, int(rng.integers(1, 60))
        a, b = elements(format, (2, K), rng), elements(format, (2, K), rng)
        c = np.ldexp(rng.integers(-40, 40, (2, 2)).astype(np.float64), rng.integers(-14, 4)).astype(np.float16)
        with np.errstate(all="ignore"):
            got = mxsim.matmul(a, b.T, unit=MatmulUnit(name="own", title="own", paths=(path,), source=""), c=c, out=path.out)
        codes = [x.view(OPERANDS[format].code) for x in (a, b)]
        for i, j in np.ndindex(2, 2):
            rows = ([decode(format, int(code)) for code in x[at]] for x, at in zip(codes, (i, j), strict=True))
            try:
                want = described.dot(path, *rows, Fraction(float(c[i, j])))
            except OverflowError:
                continue
            finite += 1
            assert Fraction(float(got[i, j])) == want, f"{path}, K = {K}"
    assert finite > 300
