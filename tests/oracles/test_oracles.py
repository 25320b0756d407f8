"""The oracles against numbers that others published."""

from __future__ import annotations

import ast
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.oracles import conversion, numbers, packing, philox, tensors
from tests.oracles.numbers import INF, NAN, Number

# OCP MX v1.0, tables 2 to 6: max, min normal, min subnormal of each element
LIMITS = {
    "e5m2": (57344, Fraction(1, 2**14), Fraction(1, 2**16)),
    "e4m3": (448, Fraction(1, 2**6), Fraction(1, 2**9)),
    "e3m2": (28, Fraction(1, 4), Fraction(1, 16)),
    "e2m3": (Fraction(15, 2), 1, Fraction(1, 8)),
    "e2m1": (6, 1, Fraction(1, 2)),
}


def float_bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name: str) -> None:
    element = numbers.ELEMENTS[name]
    codes = numbers.magnitude_codes(name)
    largest, min_normal, min_subnormal = LIMITS[name]
    assert max(codes) == element.max == largest
    assert min(magnitude for magnitude in codes if magnitude) == min_subnormal
    assert numbers.decode(1 << element.mbits, name).magnitude == min_normal
    assert numbers.floor_log2(element.max) == element.emax


def test_every_e2m1_value() -> None:
    # OCP MX v1.0, 5.3.3: the sixteen codes
    positive = [Fraction(twice, 2) for twice in (0, 1, 2, 3, 4, 6, 8, 12)]
    assert [numbers.decode(code, "e2m1") for code in range(16)] == [Number(s, m) for s in (0, 1) for m in positive]


def test_specials() -> None:
    # OFP8: E4M3 NaN is S.1111.111 alone; E5M2 Inf is S.11111.00 and NaN the other three
    assert [code for code in range(256) if not numbers.decode(code, "e4m3").finite] == [0x7F, 0xFF]
    assert [numbers.decode(code, "e5m2").special for code in range(0x7C, 0x80)] == [INF, NAN, NAN, NAN]
    assert all(numbers.decode(code, name).finite for name in ("e3m2", "e2m3") for code in range(64))


def test_int8_and_e8m0() -> None:
    assert numbers.decode(0x7F, "int8") == Number(0, Fraction(127, 64))
    assert numbers.decode(0x80, "int8") == Number(1, Fraction(2))
    assert numbers.decode(0xFF, "int8") == Number(1, Fraction(1, 64))
    assert numbers.decode(0, "e8m0").magnitude == Fraction(1, 2**127)
    assert numbers.decode(254, "e8m0").magnitude == 2**127
    assert numbers.decode(255, "e8m0").special == NAN


def test_float32_decode_is_struct_unpack() -> None:
    for bits in (0, 1, 0x7FFFFF, 0x800000, 0x3F800001, 0x7F7FFFFF, 0x80000001, 0xC0490FDB):
        value = struct.unpack("<f", struct.pack("<I", bits))[0]
        number = numbers.from_float32(bits)
        assert (-1) ** number.sign * number.magnitude == Fraction(value)
        assert numbers.to_float32(number) == bits
    assert [numbers.from_float32(bits).special for bits in (0x7F800000, 0xFF800000, 0x7FC00000)] == [INF, INF, NAN]


def test_float32_arithmetic_is_numpys() -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, (2, 3000), dtype=np.uint32)
    bits[:, :1500] &= 0x807FFFFF  # subnormal and near it, so that products and quotients meet the ends of the range
    bits[1, :500] |= 0x3E800000
    a, b = bits.view(np.float32)
    with np.errstate(all="ignore"):
        for expected, operation in ((a / b, conversion.float32_divide), (a * b, conversion.float32_multiply)):
            got = np.array([operation(int(x), int(y)) for x, y in bits.T], np.uint32)
            want = np.where(np.isnan(expected), np.uint32(numbers.FLOAT32_NAN), expected.view(np.uint32))
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("value", "rounding", "expected"),
    [
        (0.75, "nearest_even", 1.0),
        (1.75, "nearest_even", 2.0),
        (2.5, "nearest_even", 2.0),
        (3.5, "nearest_even", 4.0),
        (5.0, "nearest_even", 4.0),
        (0.25, "nearest_even", 0.0),
        (0.25, "nearest_away", 0.5),
        (5.0, "nearest_away", 6.0),
        (5.999, "toward_zero", 4.0),
        (0.499, "toward_zero", 0.0),
        (7.0, "nearest_away", 6.0),
        (1e30, "toward_zero", 6.0),
    ],
)
def test_e2m1_roundings(value: float, rounding: str, expected: float) -> None:
    for sign in (0, 1):
        code = numbers.encode(Number(sign, Fraction(value)), "e2m1", rounding)
        assert numbers.decode(code, "e2m1") == Number(sign, Fraction(expected))


def test_saturation() -> None:
    # the contract: elements saturate; INT8 never takes 0x80
    for name in numbers.ELEMENTS:
        for number in (Number(1, Fraction(10**9)), Number(1, special=INF)):
            decoded = numbers.decode(numbers.encode(number, name), name)
            assert decoded == Number(1, numbers.ELEMENTS[name].max)
    assert numbers.encode(Number(0, Fraction(470)), "e4m3", "nearest_away") == 0x7E
    assert numbers.encode(Number(1, Fraction(2)), "int8") == 0x81


def test_stochastic_goes_up_below_the_fraction() -> None:
    value = Number(0, Fraction(9, 4))  # a quarter of the way from 2 to 3
    assert numbers.decode(numbers.encode(value, "e2m1", "stochastic", 2**30 - 1), "e2m1").magnitude == 3
    assert numbers.decode(numbers.encode(value, "e2m1", "stochastic", 2**30), "e2m1").magnitude == 2
    assert numbers.encode(Number(0, Fraction(5, 2)), "int8", "stochastic", 0) == 0x7F


@pytest.mark.parametrize(
    ("amax", "element", "rule", "code"),
    [
        (6.0, "e2m1", "floor", 127),
        (6.0, "e2m1", "ceil", 128),
        (6.0, "e2m1", "rceil", 127),
        (4.0, "e2m1", "ceil", 127),
        (7.0, "e2m1", "floor", 127),
        (7.0, "e2m1", "rceil", 128),
        (6.99, "e2m1", "even", 127),
        (7.0, "e2m1", "even", 128),
        (448.0, "e4m3", "rceil", 127),
        (449.0, "e4m3", "rceil", 128),
        (480.0, "e4m3", "even", 127),
        (496.0, "e4m3", "even", 128),
        (127 / 64, "int8", "rceil", 127),
        (127.5 / 64, "int8", "even", 128),
        (2.0**-149, "e5m2", "floor", 0),
        (2.0**127, "int8", "ceil", 254),
        (1.5 * 2.0**127, "int8", "ceil", 254),
        (0.0, "e4m3", "ceil", 0),
    ],
)
def test_scale_rules(amax: float, element: str, rule: str, code: int) -> None:
    # m > 1, m > mm, m >= 2 - 2^-(mbits+1): the three rules' bumps
    assert conversion.scale_code(Fraction(amax), element, rule) == code


def test_a_block_by_hand() -> None:
    values = [float_bits(value) for value in (6.0, -0.0, -0.2, 2.5, 0.25)]
    codes, scale = conversion.quantize_block(values, "e2m1", "floor", "nearest_even")
    assert (codes, scale) == ([0x7, 0x8, 0x8, 0x4, 0x0], 127)
    assert conversion.dequantize_block(codes, scale, "e2m1") == [float_bits(value) for value in (6.0, -0.0, -0.0, 2.0, 0.0)]


def test_special_blocks() -> None:
    nan, inf, one = 0x7FC00000, 0xFF800000, conversion.ONE
    assert conversion.quantize_block([one, nan], "e4m3", "floor", "nearest_even") == ([0, 0], 255)
    assert conversion.quantize_block([inf, one], "int8", "floor", "nearest_even") == ([0, 0], 255)
    assert conversion.quantize_block([0, 1 << 31], "e3m2", "ceil", "nearest_even") == ([0, 0x20], 0)
    assert conversion.dequantize_block([0, 5], 255, "e2m1") == [nan, nan]
    assert conversion.dequantize_block([0x7C, 0xFC, 0x7E], 0, "e5m2") == [0x7F800000, 0xFF800000, nan]
    # 2^127 * 448 is Inf in float32; 2^-127 * 2^-9 is subnormal
    assert conversion.dequantize_block([0x7E, 0x01], 254, "e4m3")[0] == 0x7F800000
    assert conversion.dequantize_block([0x01], 0, "e4m3") == [1 << 13]


def test_nvfp4_by_hand() -> None:
    # amax = 2688 gives tensor scale 1; the block's scale is then 448
    values = [float_bits(value) for value in (2688.0, -448.0, 0.0)]
    assert conversion.nvfp4_tensor_scale([*values, 0x7F800000]) == conversion.ONE
    assert conversion.nvfp4_tensor_scale([0]) == conversion.ONE
    codes, scale = conversion.nvfp4_quantize_block(values, conversion.ONE, "nearest_even")
    assert (codes, scale) == ([0x7, 0xA, 0x0], 0x7E)
    decoded = conversion.nvfp4_dequantize_block(codes, scale, conversion.ONE)
    assert decoded == [float_bits(value) for value in (2688.0, -448.0, 0.0)]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123, tests/kat_vectors, philox4x32 10
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: philox.Words, key: tuple[int, int], words: philox.Words) -> None:
    assert philox.philox4x32(counter, key) == words


def test_rounding_words() -> None:
    assert [philox.rounding_word(i, 0) for i in range(4)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox.rounding_word(6, 7 << 32) == philox.philox4x32((1, 0, 0, 0), (0, 7))[2]


def test_packing_by_hand() -> None:
    assert packing.pack_row([1, 2, 3, 4], 6) == bytes([0x81, 0x30, 0x10])  # LSB-first stream
    assert packing.pack_row([0xA, 0x5, 0x3], 4) == bytes([0x5A, 0x03])  # low nibble first
    assert packing.unpack_row(bytes([0x81, 0x30, 0x10]), 6, 4) == [1, 2, 3, 4]


def test_whole_arrays_follow_the_axis() -> None:
    rng = np.random.default_rng(2)
    bits = rng.standard_normal((5, 3)).astype(np.float32).view(np.uint32)
    codes, scales, _ = tensors.quantize(bits, "mxfp6_e3m2", axis=0, block_size=2)
    across, across_scales, _ = tensors.quantize(bits.T, "mxfp6_e3m2", axis=-1, block_size=2)
    assert scales.shape == (3, 3)
    np.testing.assert_array_equal(codes.T, across)
    np.testing.assert_array_equal(scales.T, across_scales)
    assert tensors.packed_rows(codes, "mxfp6_e3m2", axis=0).shape == (3, 4)


def test_an_oracle_imports_nothing_that_it_checks() -> None:
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {"mxsim", "dmx"} & {module.split(".")[0] for module in modules}, path
