"""Scale rules at every exponent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mxsim
from mxsim.plan import LARGEST_BITS, NEAR, first_bits
from tests.exactness import scales
from tests.oracles import conversion


@pytest.mark.parametrize("block_size", [2, 32])
@pytest.mark.parametrize("scale_rule", conversion.SCALE_RULES)
@pytest.mark.parametrize("format_name", scales.SCALED_FORMATS)
def test_decision_points(format_name: str, scale_rule: str, block_size: int) -> None:
    # OCP MX v1.0, 6.3: the largest power of two <= amax, over the largest in the element type (floor);
    # ceil bumps at m > 1, rceil at m > element max / 2^emax, even at m >= 2 - 2^-(mbits + 1)
    scales.scale_comparison(format_name, scale_rule, block_size).require_equal()


@pytest.mark.parametrize("format_name", scales.SCALED_FORMATS)
def test_rules_are_ordered(format_name: str) -> None:
    # each bumps where the one before it does, and none by more than one
    amax = scales.amax_patterns(scales.SCALED_FORMATS[format_name]).view(np.float32)[:, None]
    floor, even, rceil, ceil = (
        mxsim.quantize(amax, format_name, block_size=1, scale_rule=rule).scales.astype(int) for rule in ("floor", "even", "rceil", "ceil")
    )
    assert (floor <= even).all()
    assert (even <= rceil).all()
    assert (rceil <= ceil).all()
    assert (ceil - floor <= 1).all()


@pytest.mark.parametrize("scale_rule", conversion.SCALE_RULES)
@pytest.mark.parametrize("format_name", scales.SCALED_FORMATS)
def test_zero_and_special_blocks(format_name: str, scale_rule: str) -> None:
    # the contract: a zero block has code 0; NaN or Inf anywhere gives 0xFF; a finite block never does
    special = np.float32([[0, -0.0], [np.nan, 1], [1, -np.inf], [np.finfo(np.float32).max, 1]])
    quantized = mxsim.quantize(special, format_name, block_size=2, scale_rule=scale_rule)
    codes = quantized.scales.ravel().tolist()
    assert codes[:3] == [0, 255, 255]
    assert codes[3] <= 254
    # 5.1: a NaN scale makes the whole block NaN
    assert np.isnan(quantized.dequantize()[1:3]).all()


@given(st.lists(st.integers(1, LARGEST_BITS), min_size=3, max_size=3), st.integers(-2 * NEAR, 2 * NEAR), st.integers(0, 2**31 - 1))
def test_thresholds_are_the_same_wherever_they_are_looked_for_first(thresholds: list[int], off: int, anywhere: int) -> None:
    wanted = np.array([*thresholds, LARGEST_BITS + 1])
    near = np.array([*(bits + off for bits in thresholds[:2]), anywhere, LARGEST_BITS])
    found = [first_bits(lambda x: x.view(np.int32) >= wanted, 4, guess) for guess in (None, near)]
    assert [list(bits) for bits in found] == [list(wanted)] * 2
