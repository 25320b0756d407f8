"""The quick kernels: the exact oracle's bits, the engine's bits, nothing unproven kept, no dependence on threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from mxsim.units import engine, fast
from mxsim.units.operands import OPERANDS, Operand
from mxsim.units.presets import UNITS
from tests.oracles.units import dot

M, N, K = 9, 37, 200  # nothing divides a tile, a side or a block

#: one pair of each kernel, rule and parameter set
CASES = [
    ("nvidia_volta", "fp16", "fp16"),
    ("nvidia_ampere", "bf16", "bf16"),
    ("nvidia_ampere", "tf32", "tf32"),
    ("nvidia_ada", "e4m3", "e5m2"),
    ("nvidia_hopper_wgmma", "e4m3", "e4m3"),
    ("nvidia_hopper_wgmma", "e5m2", "e4m3"),
    ("nvidia_hopper_wgmma", "tf32", "tf32"),
    ("nvidia_blackwell", "fp16", "fp16"),
    ("nvidia_blackwell", "e4m3", "e2m1"),
    ("nvidia_blackwell", "mxfp8_e4m3", "mxfp8_e4m3"),
    ("nvidia_blackwell", "mxfp8_e5m2", "mxfp6_e3m2"),
    ("nvidia_blackwell", "mxfp4_e2m1", "mxfp4_e2m1"),
    ("nvidia_blackwell", "nvfp4", "nvfp4"),
    ("amd_cdna3", "fp16", "fp16"),
    ("amd_cdna3", "bf16", "bf16"),
    ("pulp_mxdotp", "mxfp8_e4m3", "mxfp8_e4m3"),
    ("pulp_mxdotp", "mxfp6_e2m3", "mxfp6_e2m3"),
    ("pulp_mxdotp", "mxint8", "mxint8"),
    ("mx_exact", "mxfp8_e4m3", "mxfp8_e4m3"),
    ("mx_exact", "mxfp4_e2m1", "mxint8"),
    ("mx_exact", "nvfp4", "nvfp4"),
    ("mx_fp32_chain", "mxfp8_e5m2", "mxfp8_e5m2"),
    ("mx_fp32_chain", "mxfp6_e3m2", "mxfp4_e2m1"),
    ("mx_fp32_chain", "nvfp4", "nvfp4"),
]
STYLES = ("normal", "wide", "cancelling", "equal exponents", "largest", "sparse")


def element_name(name: str) -> str:
    return "e2m1" if name == "nvfp4" else name.rpartition("_")[2].removeprefix("mx")


def operand(name: str, rows: int, block: int | None, style: str, rng: np.random.Generator, negate: bool = False) -> Operand:
    """Finite numbers of a format; its scales within a few binades, or with style "wide" within forty."""
    x = rng.standard_normal((rows, K))
    if style == "wide":
        x *= 2.0 ** rng.integers(-6, 3, (rows, K))
    elif style == "cancelling":
        x[:, K // 2 :] = -x[:, : K // 2] if negate else x[:, : K // 2]
    elif style == "equal exponents":
        x = np.sign(x) * (1 + rng.random((rows, K)))
    elif style == "largest":
        x = np.full((rows, K), 2 - 2.0 ** -OPERANDS[name].mbits)  # of its binade: what sums may come to
    elif style == "sparse":
        x[rng.random((rows, K)) < 0.97] = 0
        x[:, 32:64] = 0
    format, element = OPERANDS[name], element_name(name)
    if element == "int8":
        codes: npt.NDArray[Any] = np.clip(np.rint(40 * x), -128, 127).astype(np.int8).view(np.uint8)
    else:
        codes = x.astype(OPERANDS[element].dtype).view(OPERANDS[element].code)
    if format.scale is None or block is None:
        return Operand(format=format, codes=codes)
    centre, reach = (119, 20 if style == "wide" else 3) if format.scale == "e8m0" else (56, 40 if style == "wide" else 9)
    scales = rng.integers(centre - reach, centre + reach, (rows, -(-K // block))).astype(np.uint8)
    if style == "sparse" and format.scale == "e8m0":
        scales[:, 1] = 0  # what a block of zeros gets
    return Operand(format=format, codes=codes, scales=scales, block=block)


def problem(unit: str, fa: str, fb: str, style: str, seed: int = 0) -> tuple[Any, Operand, Operand, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    path = UNITS[unit].path_for(fa, fb)
    a, b = operand(fa, M, path.block, style, rng, negate=True), operand(fb, N, path.block, style, rng)
    c = rng.standard_normal((M, N)) * 10.0 ** rng.integers(-8, 5, (M, N))
    return path, a, b, c.astype(np.float32)


def bits(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    return x.view(np.uint32)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("unit", "fa", "fb"), CASES)
def test_exact_oracle(unit: str, fa: str, fb: str, style: str) -> None:
    path, a, b, c = problem(unit, fa, fb, style)
    kernel = fast.kernel_for(path, a.format, b.format)
    assert kernel is not None
    out = np.empty((M, N), np.float32)
    rows, columns = fast._run(kernel, path, a, b, c, out)
    if style in ("normal", "equal exponents", "largest", "sparse"):
        assert not rows.any()
        assert not columns.any()
    proven = np.argwhere(~rows[:, None] & ~columns[None])
    for i, j in np.random.default_rng(1).choice(proven, min(12, len(proven)), replace=False):
        scales = {}
        if a.scales is not None and b.scales is not None and path.block is not None:
            scales = {
                "a_scales": a.scales[i].tolist(),
                "b_scales": b.scales[j].tolist(),
                "scale_format": a.format.scale,
                "block": path.block,
            }
        expected = dot(
            unit, a.codes[i].tolist(), element_name(fa), b.codes[j].tolist(), element_name(fb), c_bits=int(bits(c)[i, j]), **scales
        )
        assert hex(bits(out)[i, j]) == hex(expected), (i, j)


@pytest.mark.parametrize(("unit", "fa", "fb"), CASES)
def test_what_is_not_proven_is_the_engines(unit: str, fa: str, fb: str) -> None:
    """Specials in some rows and columns, an extreme C in another: all outputs are the engine's."""
    path, a, b, c = problem(unit, fa, fb, "normal")
    if a.format.specials != "none":
        a.codes[2, 5] = {"fp16": 0x7C00, "bf16": 0x7F80, "tf32": 0x7F800000, "e5m2": 0x7C, "e4m3": 0x7F}[element_name(fa)]
    if a.scales is not None and b.scales is not None:
        a.scales[0, 1] = 0xFF
        b.scales[3, 0] = 0xFF if path.block == 32 else 0x7F
    c[4, 4], c[5, 1] = np.float32(np.inf), np.float32(1e-42)
    expected, out = np.empty((M, N), np.float32), np.empty((M, N), np.float32)
    engine.run(path, a, b, c, expected)
    fast.run(path, a, b, c, out)
    assert np.array_equal(bits(out), bits(expected))


@pytest.mark.parametrize(("unit", "fa", "fb"), CASES)
def test_threads_and_turned(unit: str, fa: str, fb: str) -> None:
    """One thread or all, the operands this way or the other: the same bits."""
    path, a, b, c = problem(unit, fa, fb, "normal", seed=2)
    out, single, turned = np.empty((M, N), np.float32), np.empty((M, N), np.float32), np.empty((N, M), np.float32)
    fast.run(path, a, b, c, out)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        fast.run(path, a, b, c, single)
    finally:
        numba.set_num_threads(threads)
    assert np.array_equal(bits(out), bits(single))
    other = replace(path, formats=(*path.formats,))
    fast.run(other, b, a, np.ascontiguousarray(c.T), turned)
    assert np.array_equal(bits(out), bits(np.ascontiguousarray(turned.T)))


def test_promotion() -> None:
    """A separate FP32 accumulator every 64 of K: the engine's bits."""
    path, a, b, c = problem("nvidia_hopper_wgmma", "e4m3", "e4m3", "normal")
    promoted = replace(path, promote_every=64)
    expected, out = np.empty((M, N), np.float32), np.empty((M, N), np.float32)
    engine.run(promoted, a, b, c, expected)
    fast.run(promoted, a, b, c, out)
    assert np.array_equal(bits(out), bits(expected))


@pytest.mark.parametrize("field", ["F", "chunk", "align", "step", "denormals", "exponents"])
def test_other_arithmetic_is_declined_or_right(field: str) -> None:
    """A field away from the presets: either no kernel, or the engine's bits."""
    path, a, b, c = problem("nvidia_hopper_wgmma", "e4m3", "e4m3", "normal")
    changed = {"F": 14, "chunk": 8, "align": "floor", "step": "rne_fp32", "denormals": "flush", "exponents": "fp16"}
    path = replace(path, **{field: changed[field]})  # type: ignore[arg-type]
    assert (fast.kernel_for(path, a.format, b.format) is None) == (field not in ("F", "chunk"))
    expected, out = np.empty((M, N), np.float32), np.empty((M, N), np.float32)
    engine.run(path, a, b, c, expected)
    fast.run(path, a, b, c, out)
    assert np.array_equal(bits(out), bits(expected))


@pytest.mark.parametrize(
    ("name", "codes", "exponent"), [("nvfp4", (1, 1), -18), ("mxfp4_e2m1", (100, 90), -64), ("mxfp4_e2m1", (127, 127), 0)]
)
def test_a_group_below_the_quantum_of_a_large_c_is_dropped(name: str, codes: tuple[int, int], exponent: int) -> None:
    """-1/2 x 1/2 under scales of 2^exponent beside C = 2^E, whose quantum is 2^(E-35): it takes the last bit of C away, or nothing."""
    E = np.arange(exponent + 22, exponent + 50).repeat(8)  # eight columns are judged together
    c = np.ldexp(np.float32(1), E).reshape(1, -1).astype(np.float32)
    path, format = UNITS["nvidia_blackwell"].path_for(name, name), OPERANDS[name]
    block = format.scale_block
    one = np.eye(1, 64, dtype=np.uint8)
    a = Operand(format=format, codes=0x9 * one, scales=np.full((1, 64 // block), codes[0], np.uint8), block=block)
    b = Operand(format=format, codes=one.repeat(E.size, 0), scales=np.full((E.size, 64 // block), codes[1], np.uint8), block=block)
    out = np.empty(c.shape, np.float32)
    fast.run(path, a, b, c, out)
    kept = exponent - 2 >= E - 35
    np.testing.assert_array_equal(out[0], np.where(kept, np.nextafter(c[0], np.float32(0)), c[0]))
    assert kept.any()
    assert not kept.all()


@pytest.mark.parametrize("limit", [100, 110, 123, 124, 125, 126])
def test_products_at_a_limit_below_the_kernels_own_are_infinite(limit: int) -> None:
    path, format = replace(UNITS["amd_cdna3"].path_for("bf16", "bf16"), product_limit=limit), OPERANDS["bf16"]
    powers = np.arange(40, 70)
    a, b = (Operand(format=format, codes=(127 + x << 7).astype(np.uint16)[:, None]) for x in (powers, np.array([55])))
    out = np.empty((powers.size, 1), np.float32)
    fast.run(path, a, b, None, out)
    np.testing.assert_array_equal(out[:, 0], np.where(powers + 55 >= limit, np.inf, np.ldexp(1.0, powers + 55)))


@pytest.mark.parametrize("exponent", [-4, 0, 9])
def test_cdna3_floors_to_32_bits_before_it_rounds(exponent: int) -> None:
    """+-(1 + 2^-24 + 2^-32) times 2^exponent: floored to 31 fraction bits, 1 + 2^-24 is a tie, -(1 + 2^-24 + 2^-31) lies beyond one."""
    path, format = UNITS["amd_cdna3"].path_for("fp16", "fp16"), OPERANDS["fp16"]
    signs = np.array([[1.0], [-1.0]])
    a, b = np.zeros((2, 8), np.float16), np.zeros((1, 8), np.float16)
    a[:, [0, 3]] = signs * np.ldexp(1.0, [exponent - 4, exponent - 12])
    b[:, [0, 3]] = 2.0**-20
    c, out = np.ldexp(signs, exponent).astype(np.float32), np.empty((2, 1), np.float32)
    fast.run(path, *(Operand(format=format, codes=x.view(np.uint16)) for x in (a, b)), c, out)
    assert np.ldexp(out, -exponent).ravel().tolist() == [1, -1 - 2.0**-23]


@pytest.mark.parametrize("power", [0, 30, 50])
@pytest.mark.parametrize("unit", ["nvidia_ampere", "nvidia_hopper_wgmma", "amd_cdna3"])
def test_zeros_times_large_numbers_leave_c_alone(unit: str, power: int) -> None:
    """Large numbers meet nothing but zeros: no product raises the exponent that C is aligned to."""
    path, format = UNITS[unit].path_for("bf16", "bf16"), OPERANDS["bf16"]
    a, b = (np.zeros((rows, 64), np.uint16) for rows in (2, 40))
    a[:, ::2], b[:, 1::2] = (127 + power) << 7, (127 + power) << 7
    c = np.ldexp(np.random.default_rng(0).standard_normal((2, 40)), np.arange(-20, 20)).astype(np.float32)
    out = np.empty_like(c)
    fast.run(path, Operand(format=format, codes=a), Operand(format=format, codes=b), c, out)
    assert np.array_equal(bits(out), bits(c))


@pytest.mark.parametrize(("name", "one"), [("nvfp4", 0x38), ("mxfp4_e2m1", 127)])
def test_c_beside_a_group_that_cancels_is_cut_to_the_groups_quantum(name: str, one: int) -> None:
    """1 x 1 - 1 x 1 under scales of one: the sum is C alone, but a multiple of 2^-35."""
    path, format = UNITS["nvidia_blackwell"].path_for(name, name), OPERANDS[name]
    c = np.ldexp(np.float32(2 - 2.0**-23), np.arange(-20, 4).repeat(8))[None].astype(np.float32)
    scales = np.full((c.size, 64 // format.scale_block), one, np.uint8)
    a, b = np.zeros((1, 64), np.uint8), np.zeros((c.size, 64), np.uint8)
    a[:, 3:5], b[:, 3], b[:, 4] = 2, 2, 0xA
    out = np.empty(c.shape, np.float32)
    fast.run(path, *(Operand(format=format, codes=x, scales=scales[: len(x)], block=format.scale_block) for x in (a, b)), c, out)
    np.testing.assert_array_equal(out, np.ldexp(np.trunc(np.ldexp(c.astype(np.float64), 35)), -35).astype(np.float32))


@pytest.mark.parametrize("unit", ["mx_exact", "mx_fp32_chain"])
def test_a_block_wider_than_a_float64_is_exact(unit: str) -> None:
    """Fifteen of E5M2's largest products, 1.75 x 2^p times 1.75 x 2^q, and the fifteen taken away again."""
    path, format = UNITS[unit].path_for("mxfp8_e5m2", "mxfp8_e5m2"), OPERANDS["mxfp8_e5m2"]
    powers = np.arange(-14, 16)
    a = np.full((powers.size, 32), 0x7B, np.uint8)
    a[:, 15], a[:, 31] = powers + 15 << 2 | 3, 0
    b = a.copy()
    b[:, 16:31] |= 0x80
    out, scales = np.empty((powers.size, powers.size), np.float32), np.full((powers.size, 1), 127, np.uint8)
    fast.run(path, *(Operand(format=format, codes=x, scales=scales, block=32) for x in (a, b)), None, out)
    np.testing.assert_array_equal(out, np.ldexp(1.75 * 1.75, powers[:, None] + powers))


def test_an_integer_under_the_largest_scale_overflows_nothing_on_the_way() -> None:
    """PULP's INT8 are whole numbers: 64 under 2^127 is 2^133, and 32 products of it with 64 under 2^-127 are 2^17."""
    path, format = UNITS["pulp_mxdotp"].path_for("mxint8", "mxint8"), OPERANDS["mxint8"]
    codes, out = np.full((1, 32), 64, np.uint8), np.empty((1, 1), np.float32)
    a, b = (Operand(format=format, codes=codes, scales=np.array([[scale]], np.uint8), block=32) for scale in (254, 0))
    fast.run(path, a, b, None, out)
    assert out == 2**17


def test_a_sum_of_blocks_wider_than_two_float64_is_exact() -> None:
    """2^60 + 1 + 2^-d - 2^60 - 1, a block each."""
    path, format = UNITS["mx_exact"].path_for("mxfp4_e2m1", "mxfp4_e2m1"), OPERANDS["mxfp4_e2m1"]
    d = np.arange(1, 110)
    a, b = np.zeros((d.size, 160), np.uint8), np.zeros((1, 160), np.uint8)
    a[:, ::32], b[:, ::32] = 2, [2, 2, 2, 0xA, 0xA]
    scales = 127 + np.stack([np.full(d.size, 60), 0 * d, -d, np.full(d.size, 60), 0 * d], axis=1)
    out = np.empty((d.size, 1), np.float32)
    x = Operand(format=format, codes=a, scales=scales.astype(np.uint8), block=32)
    fast.run(path, x, Operand(format=format, codes=b, scales=np.full((1, 5), 127, np.uint8), block=32), None, out)
    np.testing.assert_array_equal(out[:, 0], np.ldexp(1.0, -d))


def test_a_group_below_the_quantum_of_another_is_dropped() -> None:
    """1 x 1 - 1/2 x 1/2 x 2^-d: the quantum is 2^-35."""
    path, format = UNITS["nvidia_blackwell"].path_for("mxfp4_e2m1", "mxfp4_e2m1"), OPERANDS["mxfp4_e2m1"]
    d = np.arange(22, 50).repeat(8)
    a, b = np.zeros((1, 64), np.uint8), np.zeros((d.size, 64), np.uint8)
    a[:, [0, 32]], b[:, [0, 32]] = [2, 9], [2, 1]
    scales = np.stack([np.full(d.size, 127), 127 - d], axis=1).astype(np.uint8)
    out, x = np.empty((1, d.size), np.float32), Operand(format=format, codes=a, scales=np.full((1, 2), 127, np.uint8), block=32)
    fast.run(path, x, Operand(format=format, codes=b, scales=scales, block=32), None, out)
    np.testing.assert_array_equal(out[0], np.where(d <= 33, np.float32(1 - 2.0**-24), np.float32(1)))
