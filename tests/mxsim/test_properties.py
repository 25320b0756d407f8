"""What must hold for any input: metamorphic tests with random bit patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numba
import numpy as np
import numpy.typing as npt
import pytest

import mxsim
from mxsim.kernels.rounding import stochastic_steps
from tests.oracles import conversion, numbers, packing, tensors

FORMATS = tuple(conversion.BLOCK_FORMATS)
MX_FORMATS = tuple(name for name in FORMATS if name != "nvfp4")
ROUNDINGS = (*numbers.ROUNDINGS, "stochastic")
seeded = hypothesis.settings(max_examples=25, derandomize=True, deadline=None, database=None)

Floats = npt.NDArray[np.float32]
shapes = st.tuples(st.integers(1, 4), st.integers(1, 70))
scale_rules = st.sampled_from(conversion.SCALE_RULES)


def arrays(lowest: int = -149, highest: int = 125) -> st.SearchStrategy[Floats]:
    """Finite float32 arrays (rows, K): one exponent range a draw, zeros of both signs among the values."""

    def build(shape: tuple[int, int], seed: int, middle: int, spread: int) -> Floats:
        bits = np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32)
        significands = ((bits & 0x7FFFFF) | 0x800000).astype(np.float64) / 2**23
        exponents = np.clip(middle + (bits >> 23 & 0xFF).astype(int) % (spread + 1), lowest, highest)
        signed = np.where(bits >> 31, -1.0, 1.0) * np.where(bits & 0x7F == 0x55, 0.0, 1.0)
        return np.ldexp(significands * signed, exponents).astype(np.float32)

    seeds = st.integers(0, 2**32 - 1)
    return st.builds(build, shapes, seeds, st.integers(lowest, highest), st.integers(0, 40))


def options(format_name: str, scale_rule: str, rounding: str) -> dict[str, Any]:
    return {
        "scale_rule": None if format_name == "nvfp4" else scale_rule,
        "rounding": rounding,
        "seed": 11 if rounding == "stochastic" else None,
    }


def bits_of(values: Floats) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def assert_same(got: mxsim.MXTensor, want: mxsim.MXTensor) -> None:
    np.testing.assert_array_equal(got.codes, want.codes)
    np.testing.assert_array_equal(got.scales, want.scales)
    assert got.tensor_scale == want.tensor_scale


@pytest.mark.parametrize("format_name", MX_FORMATS)
@seeded
@hypothesis.given(values=arrays(highest=120), scale_rule=scale_rules)
def test_idempotent(format_name: str, values: Floats, scale_rule: str) -> None:
    once = mxsim.fake_quantize(values, format_name, scale_rule=scale_rule)
    twice = mxsim.fake_quantize(once, format_name, scale_rule=scale_rule)
    np.testing.assert_array_equal(bits_of(twice), bits_of(once))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(), scale_rule=scale_rules)
def test_quantize_then_dequantize_is_fake_quantize(format_name: str, rounding: str, values: Floats, scale_rule: str) -> None:
    how = options(format_name, scale_rule, rounding)
    in_steps = mxsim.quantize(values, format_name, **how).dequantize()
    np.testing.assert_array_equal(bits_of(mxsim.fake_quantize(values, format_name, **how)), bits_of(in_steps))


@pytest.mark.parametrize("rounding", numbers.ROUNDINGS)
@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(), scale_rule=scale_rules)
def test_monotone_within_a_block(format_name: str, rounding: str, values: Floats, scale_rule: str) -> None:
    block = np.sort(values.ravel()[:16])
    got = mxsim.fake_quantize(block, format_name, **options(format_name, scale_rule, rounding))
    assert (got[1:] >= got[:-1]).all()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(), scale_rule=scale_rules)
def test_sign_symmetry(format_name: str, rounding: str, values: Floats, scale_rule: str) -> None:
    how = options(format_name, scale_rule, rounding)
    plain, negated = mxsim.quantize(values, format_name, **how), mxsim.quantize(-values, format_name, **how)
    np.testing.assert_array_equal(plain.scales, negated.scales)
    if format_name == "mxint8":
        np.testing.assert_array_equal(plain.codes, -negated.codes)
    else:
        sign = mxsim.FORMATS[format_name].element.sign_mask
        np.testing.assert_array_equal(plain.codes, negated.codes ^ np.uint8(sign))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(-40, 40), power=st.integers(-40, 40), scale_rule=scale_rules)
def test_powers_of_two_move_the_scale_alone(format_name: str, rounding: str, values: Floats, power: int, scale_rule: str) -> None:
    how = options(format_name, scale_rule, rounding)
    plain = mxsim.quantize(values, format_name, **how)
    moved = mxsim.quantize(np.ldexp(values, power), format_name, **how)
    np.testing.assert_array_equal(plain.codes, moved.codes)
    if format_name == "nvfp4":
        np.testing.assert_array_equal(plain.scales, moved.scales)
        if values.any():
            assert moved.tensor_scale == np.ldexp(plain.tensor_scale, power)
    else:
        occupied = plain.scales != 0
        np.testing.assert_array_equal(plain.scales.astype(int) + power * occupied, moved.scales)


@pytest.mark.parametrize("rounding", numbers.ROUNDINGS)
@pytest.mark.parametrize("format_name", MX_FORMATS)
@seeded
@hypothesis.given(values=arrays(), block=st.integers(0, 2), scale_rule=scale_rules)
def test_blocks_are_independent(format_name: str, rounding: str, values: Floats, block: int, scale_rule: str) -> None:
    how = options(format_name, scale_rule, rounding)
    part = slice(32 * block, 32 * block + 32)
    hypothesis.assume(values[:, part].size)
    whole = mxsim.quantize(values, format_name, **how)
    alone = mxsim.quantize(values[:, part], format_name, **how)
    np.testing.assert_array_equal(whole.codes[:, part], alone.codes)
    np.testing.assert_array_equal(whole.scales[:, block : block + 1], alone.scales)


@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(), scale_rule=scale_rules, rounding=st.sampled_from(numbers.ROUNDINGS))
def test_axis_is_only_a_name(format_name: str, values: Floats, scale_rule: str, rounding: str) -> None:
    how = options(format_name, scale_rule, rounding)
    assert_same(mxsim.quantize(values.T, format_name, axis=0, **how), mxsim.quantize(values, format_name, **how).T)


VIEWS: dict[str, Callable[[Floats], Floats]] = {
    "rows reversed": lambda values: values[::-1],
    "columns reversed": lambda values: values[:, ::-1],
    "every third": lambda values: values[:, ::3],
    "transposed": lambda values: values.T,
    "Fortran order": np.asfortranarray,
    "broadcast columns": lambda values: np.broadcast_to(values[:, :1], (values.shape[0], 40)),
    "broadcast rows": lambda values: np.broadcast_to(values[None], (3, *values.shape)),
    "overlapping": lambda values: np.lib.stride_tricks.sliding_window_view(values.ravel(), 1 + values.size // 2),
}


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(), axis=st.sampled_from([0, -1]), view_name=st.sampled_from([*VIEWS]))
def test_strides_do_not_matter(format_name: str, rounding: str, values: Floats, axis: int, view_name: str) -> None:
    how = options(format_name, "floor", rounding)
    view = VIEWS[view_name](values)
    plain = mxsim.quantize(np.ascontiguousarray(view), format_name, axis=axis, **how)
    assert_same(mxsim.quantize(view, format_name, axis=axis, **how), plain)
    got = mxsim.fake_quantize(view, format_name, axis=axis, **how)
    np.testing.assert_array_equal(bits_of(got), bits_of(plain.dequantize()))


@pytest.mark.parametrize("format_name", FORMATS)
@seeded
@hypothesis.given(values=arrays(), axis=st.sampled_from([0, 1]))
def test_packed_bytes_hold_everything(format_name: str, values: Floats, axis: int) -> None:
    quantized = mxsim.quantize(values, format_name, axis=axis)
    element_bytes, scale_bytes = quantized.packed()
    width = tensors.ELEMENT_BITS[conversion.BLOCK_FORMATS[format_name][0]]
    codes = np.array([packing.unpack_row(row.tobytes(), width, values.shape[axis]) for row in element_bytes], np.uint8)
    again = mxsim.from_codes(
        np.moveaxis(codes, -1, axis),
        np.moveaxis(scale_bytes, -1, axis),
        format_name,
        axis=axis,
        tensor_scale=quantized.tensor_scale,
    )
    assert_same(again, quantized)


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_thread_count_changes_nothing(format_name: str, rounding: str) -> None:
    values = np.random.default_rng(4).standard_normal((257, 1030)).astype(np.float32)
    how = options(format_name, "floor", rounding)
    results = []
    for threads in sorted({1, min(2, numba.config.NUMBA_NUM_THREADS), numba.config.NUMBA_NUM_THREADS}):
        numba.set_num_threads(threads)
        quantized = mxsim.quantize(values, format_name, axis=0, **how)
        results.append((quantized, mxsim.fake_quantize(values, format_name, axis=0, **how)))
    for quantized, decoded in results:
        assert_same(quantized, results[0][0])
        np.testing.assert_array_equal(bits_of(decoded), bits_of(results[0][1]))
        np.testing.assert_array_equal(bits_of(decoded), bits_of(quantized.dequantize()))


@pytest.mark.parametrize("format_name", MX_FORMATS)
def test_stochastic_rounding_is_unbiased(format_name: str) -> None:
    # 2^16 draws of each of 15 fractions between two neighbours: the mean is within 5 standard deviations
    element = mxsim.FORMATS[format_name].element
    low, high = element.value_of(element.max_code - 1), element.max
    fractions = np.arange(1, 16) / 16
    draws = 1 << 16
    values = np.broadcast_to((low + fractions * (high - low))[:, None], (15, draws)).astype(np.float32)
    values[:, ::32] = high  # holds every block's scale at 1
    got = mxsim.fake_quantize(values, format_name, rounding="stochastic", scale_rule="rceil", seed=2024)
    free = np.delete(got, np.s_[::32], axis=1)
    assert np.isin(free, np.float32([low, high])).all()
    share = (free == np.float32(high)).mean(axis=1)
    deviation = np.sqrt(fractions * (1 - fractions) / free.shape[1])
    assert (np.abs(share - fractions) < 5 * deviation).all()


@pytest.mark.parametrize("format_name", FORMATS)
def test_seeds_reproduce_and_differ(format_name: str) -> None:
    values = np.random.default_rng(9).standard_normal((8, 512)).astype(np.float32)

    def codes(seed: int) -> npt.NDArray[np.uint8]:
        return mxsim.quantize(values, format_name, rounding="stochastic", seed=seed).codes

    np.testing.assert_array_equal(codes(5), codes(5))
    for other in (6, 5 + (1 << 32), (1 << 64) - 1):
        assert (codes(5) != codes(other)).mean() > 0.02


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
def test_big_and_small_arrays_take_one_path(rounding: str) -> None:
    # whatever a kernel does about size and threads, a row's bits follow from the row (and its place, for stochastic)
    values = np.random.default_rng(12).standard_normal((600, 999)).astype(np.float32)
    how = options("mxfp6_e2m3", "floor", rounding)
    big = mxsim.fake_quantize(values, "mxfp6_e2m3", **how)
    small = mxsim.fake_quantize(values[:2], "mxfp6_e2m3", **how)
    np.testing.assert_array_equal(bits_of(big[:2]), bits_of(small))


@pytest.mark.parametrize(("magnitude", "random", "expected"), [(1.0, 0, 1), (1.5, 2**31 - 1, 2), (1.5, 2**31, 1), (1.75, 3 * 2**30, 1)])
def test_stochastic_rounding_goes_up_below_the_fraction(magnitude: float, random: int, expected: int) -> None:
    """Of 2^32 random numbers, a fraction f sends f * 2^32 up, and what is exact stays: seen in no sample of a seed."""
    count = np.int32(np.rint(magnitude))
    assert stochastic_steps(count, np.float32(magnitude), np.float32(1), np.int64(random)) == expected
