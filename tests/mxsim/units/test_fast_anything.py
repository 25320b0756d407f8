"""The quick kernels on whatever bits operands may hold, on every preset's paths and on paths that no preset has: the engine's bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mxsim.errors import MxsimError
from mxsim.formats import ELEMENTS
from mxsim.units import engine, fast
from mxsim.units.operands import OPERANDS, Operand
from mxsim.units.presets import UNITS
from mxsim.units.spec import Level, UnitPath

#: every pair of every unit that a quick kernel takes
PAIRS = [
    (unit.name, a, b, path)
    for unit in UNITS.values()
    for a, b, _, path in unit.pairs()
    if fast.kernel_for(path, OPERANDS[a], OPERANDS[b]) is not None
]
SHAPES = [(1, 1), (5, 37), (37, 5), (9, 40), (33, 3), (2, 16)]  # more rows than columns are computed turned
LENGTHS = [1, 2, 7, 16, 31, 32, 33, 64, 70, 129, 200, 600]
#: (bits of the exponent, of the significand) as stored
WIDE = {"fp16": (5, 10), "bf16": (8, 7), "tf32": (8, 23)}
#: the largest code, without its sign, of a finite number
FINITE = {"e4m3": 0x7E, "e5m2": 0x7B}
SCALES = {
    "e8m0": [(100, 150), (0, 256), (0, 30), (225, 256), (250, 255), (119, 125)],
    "ue4m3": [(0, 256), (40, 60), (0, 8), (0x70, 0x7F)],
}


def codes(name: str, rows: int, K: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Bits of a format: any, or of ordinary, huge or tiny numbers, with an Inf or a NaN or without; with zeros here and there."""
    element = "e2m1" if name == "nvfp4" else name.rpartition("_")[2].removeprefix("mx")
    style = rng.integers(6)
    if element in WIDE:
        ebits, mbits = WIDE[element]
        top = (1 << ebits) - 1
        low, high = [(top // 2 - 8, top // 2 + 8), (top - 4, top), (0, 4), (0, top), (0, top + 1), (top // 2, top // 2 + 1)][style]
        exponents = rng.integers(low, high, (rows, K))
        exponents[rng.random((rows, K)) < (0.02 if style == 5 else 0)] = top
        found = rng.integers(0, 2, (rows, K)) << (ebits + mbits) | exponents << mbits | rng.integers(0, 1 << mbits, (rows, K))
    else:
        found = rng.integers(0, ELEMENTS[element].codes, (rows, K))
        if style < 4 and element in FINITE:
            found = np.where(found & 0x7F > FINITE[element], 1, found)
    if rng.random() < 0.4:
        found[rng.random(rows) < rng.choice([0.2, 0.7, 1.0])] = 0
    if rng.random() < 0.3:
        found[rng.random((rows, K)) < 0.9] = 0
    return found.astype(np.uint8 if element == "int8" else OPERANDS[element].code)


def operand(name: str, rows: int, K: int, block: int | None, rng: np.random.Generator) -> Operand:
    format, elements = OPERANDS[name], codes(name, rows, K, rng)
    if format.scale is None or block is None:
        return Operand(format=format, codes=elements)
    ranges = SCALES[format.scale]
    scales = rng.integers(*ranges[rng.integers(len(ranges))], (rows, -(-K // block))).astype(np.uint8)
    if rng.random() < 0.3:
        scales[rng.random(rows) < 0.5] = rng.integers(0, 256)
    return Operand(format=format, codes=elements, scales=scales, block=block)


def addend(M: int, N: int, rng: np.random.Generator) -> npt.NDArray[np.float32] | None:
    """None, or C: ordinary, of all exponents, any bits, or mostly zeros of either sign."""
    style = rng.integers(5)
    if style == 0:
        return None
    if style == 1:
        return rng.integers(0, 1 << 32, (M, N), np.uint32).view(np.float32)
    c = rng.standard_normal((M, N))
    if style == 2:
        c = np.ldexp(c, rng.integers(-160, 125, (M, N)))
    elif style == 3:
        c = np.where(rng.random((M, N)) < 0.7, np.copysign(0.0, c), c)
    return c.astype(np.float32)


def check(label: str, path: UnitPath, fa: str, fb: str, rng: np.random.Generator) -> None:
    (M, N), K = SHAPES[rng.integers(len(SHAPES))], int(rng.choice(LENGTHS))
    a, b, c = operand(fa, M, K, path.block, rng), operand(fb, N, K, path.block, rng), addend(M, N, rng)
    expected, out = np.zeros((M, N), np.float32), np.zeros((M, N), np.float32)
    with np.errstate(all="ignore"):
        engine.run(path, a, b, c, expected)
        fast.run(path, a, b, c, out)
    differing = np.argwhere(out.view(np.uint32) != expected.view(np.uint32))
    assert not len(differing), (
        f"{label}, {fa} x {fb}, {M} x {N} over {K}: {len(differing)} differ, at {differing[0]} "
        f"{out[tuple(differing[0])]} for {expected[tuple(differing[0])]}"
    )


def other_path(rng: np.random.Generator) -> UnitPath | None:
    """A preset's path with some of its arithmetic changed; None where that is no path."""
    changes: dict[str, Any] = {}
    for field, values in {
        "F": range(1, 49),
        "chunk": [1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 48, 64, 128],
        "step": ["rz_fp32", "rne_fp32", "rz_e8m13", "rz_e8m10", "rne_e8m13", "rz_fp32_ftz", "rne_fp32_ftz", "rz_e6m23"],
        "block": [16, 32],
        "e_zero": [None, *range(-140, -90)],
        "product_limit": range(90, 140),
        "promote_every": [16, 32, 64, 128],
        "promote": ["rne_fp32", "rz_fp32", "rne_e8m13"],
        "zero": ["positive", "signed"],
        "int8_fraction": range(7),
    }.items():
        if rng.random() < 0.3:
            changes[field] = values[rng.integers(len(values))]
    try:
        return replace(PAIRS[rng.integers(len(PAIRS))][3], level=Level.ASSUMED, vectors=(), **changes)
    except MxsimError:
        return None


@pytest.mark.parametrize("unit", sorted({unit for unit, *_ in PAIRS}))
def test_presets(unit: str) -> None:
    for number, (name, a, b, path) in enumerate(PAIRS):
        if name == unit:
            rng = np.random.default_rng(number)
            for _ in range(40):
                check(unit, path, a, b, rng)


def test_paths_that_no_preset_has() -> None:
    rng = np.random.default_rng(0)
    tried = 0
    while tried < 1500:
        path = other_path(rng)
        if path is None:
            continue
        fa = path.formats[rng.integers(len(path.formats))]
        fb = path.formats[rng.integers(len(path.formats))] if path.pairs == "any" else fa
        if fast.kernel_for(path, OPERANDS[fa], OPERANDS[fb]) is not None:
            check(str(path), path, fa, fb, rng)
            tried += 1


def test_infinity_under_zeros_is_not_a_number() -> None:
    for fa, special in (("bf16", 0x7F80), ("fp16", 0x7C00), ("tf32", 0x7FC00000), ("e5m2", 0x7C), ("e4m3", 0x7F)):
        for unit in ("nvidia_hopper_wgmma", "nvidia_blackwell", "amd_cdna3"):
            if (unit, fa, fa) not in {pair[:3] for pair in PAIRS}:
                continue
            path, format = UNITS[unit].path_for(fa, fa), OPERANDS[fa]
            zeros, ones = np.zeros((4, 32), format.code), np.ones((40, 32), format.code)
            ones[5, 3] = special
            out = np.empty((4, 40), np.float32)
            fast.run(path, Operand(format=format, codes=zeros), Operand(format=format, codes=ones), None, out)
            assert np.isnan(out[:, 5]).all(), (unit, fa)
            assert not np.delete(out, 5, axis=1).any(), (unit, fa)
