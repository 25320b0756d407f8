"""Element formats, code by code and pattern by pattern."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from mxsim import elements
from tests.exactness import elements as exactness
from tests.oracles import numbers


@pytest.mark.parametrize("name", [*exactness.ENCODED, "e8m0"])
def test_every_code_decodes(name: str) -> None:
    # OCP MX v1.0, 5.3.1 to 5.3.4 (elements) and 5.4.1 (E8M0: 2^(code - 127), 255 is NaN, code 0 is no zero)
    for comparison in exactness.decode_comparisons(name):
        comparison.require_equal()


@pytest.mark.parametrize("name", exactness.ENCODED)
def test_encode_sampled_patterns(name: str) -> None:
    # OCP MX v1.0, 6.3: roundTiesToEven is the rule to support, values beyond the largest normal clamp to it
    for comparison in exactness.encode_sampled(name):
        comparison.require_equal()


@pytest.mark.parametrize("name", exactness.ENCODED)
@pytest.mark.parametrize("rounding", numbers.ROUNDINGS)
def test_codes_survive_a_round_trip(name: str, rounding: str) -> None:
    # a value that the format holds is its own nearest, under any rounding; INT8's -2 is clipped to -127 steps
    codes = np.arange(exactness.code_count(name), dtype=np.uint8)
    values = elements.decode(codes, name)
    finite = np.isfinite(values)
    expected = codes[finite].copy()
    if name == "int8":
        expected[expected == 0x80] = 0x81
    np.testing.assert_array_equal(elements.encode(values[finite], name, rounding=rounding), expected)


@pytest.mark.parametrize("name", exactness.ENCODED)
@pytest.mark.parametrize("rounding", numbers.ROUNDINGS)
def test_nan_and_infinity(name: str, rounding: str) -> None:
    # OFP8: NaN stays NaN in E4M3 and E5M2, and in saturating mode Inf becomes the largest number;
    # OCP MX v1.0, 5.3.2 to 5.3.4: NaN to an element without one is free, here it is +0
    nans = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert set(elements.encode(nans, name, rounding=rounding).tolist()) <= set(exactness.nan_codes(name))
    infinities = np.array([np.inf, -np.inf], np.float32)
    largest = float(numbers.ELEMENTS[name].max)
    decoded = elements.decode(elements.encode(infinities, name, rounding=rounding), name)
    np.testing.assert_array_equal(decoded, np.array([largest, -largest], np.float32))


@pytest.mark.parametrize("name", ["e5m2", "e4m3", "e3m2", "e2m3", "e2m1"])
def test_zero_keeps_its_sign(name: str) -> None:
    sign = 1 << (numbers.ELEMENTS[name].bits - 1)
    tiny = np.array([0.0, -0.0, 1e-30, -1e-30], np.float32)
    assert elements.encode(tiny, name).tolist() == [0, sign, 0, sign]


def test_shape_is_kept() -> None:
    values = np.linspace(-7, 7, 24, dtype=np.float32).reshape(2, 3, 4)
    codes = elements.encode(values, "e2m1")
    assert codes.dtype == np.uint8
    assert codes.shape == values.shape
    decoded = elements.decode(codes.T, "e2m1")
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded.T, elements.decode(codes, "e2m1"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("rounding", numbers.ROUNDINGS)
@pytest.mark.parametrize("name", exactness.ENCODED)
def test_encode_every_pattern(name: str, rounding: str) -> None:
    # all 2^32 float32 patterns, minutes for each element and rounding
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for comparison in exactness.encode_exhaustive(name, rounding):
        comparison.require_equal()


@pytest.mark.exhaustive
@pytest.mark.parametrize("exponent", [0, -40])
@pytest.mark.parametrize("name", exactness.ENCODED)
def test_every_pattern_in_blocks(name: str, exponent: int) -> None:
    # the kernels for whole blocks, which round many at once
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for comparison in exactness.block_codes_exhaustive(name, exponent):
        comparison.require_equal()
