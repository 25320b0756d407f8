"""quantize, dequantize and fake_quantize, bit by bit."""

from __future__ import annotations

import ml_dtypes
import numba
import numpy as np
import pytest

import mxsim
from mxsim import arrays
from mxsim.conversion import STREAMED
from tests.exactness import bulk
from tests.exactness import conversion as exactness
from tests.exactness.blocks import awkward_rows
from tests.oracles import conversion, tensors

FORMATS = tuple(conversion.BLOCK_FORMATS)


@pytest.mark.parametrize("rounding", exactness.ROUNDINGS)
@pytest.mark.parametrize("format_name", FORMATS)
def test_against_the_oracle(format_name: str, rounding: str) -> None:
    # policy "ocp": clamped scale, scale 0 for a zero block, signed zero, saturation, 0xFF for NaN and Inf
    for comparison in exactness.format_comparisons(format_name, rounding):
        comparison.require_equal()


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != "nvfp4"])
def test_a_million_elements(format_name: str) -> None:
    # OCP MX v1.0, 6.3, in arrays large enough for chunks and threads
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for comparison in bulk.comparisons(format_name):
        comparison.require_equal()


@pytest.mark.parametrize("format_name", FORMATS)
def test_axes_shapes_and_block_sizes(format_name: str) -> None:
    # the contract: any strides; a K that the block does not divide leaves a partial last block
    for comparison in exactness.shape_comparisons(format_name):
        comparison.require_equal()


@pytest.mark.parametrize("block", [97, 100_000_000, 2**62, 2**70])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_block_far_longer_than_the_row_gives_the_bits_of_one_that_covers_it(format_name: str, axis: int, dtype: type, block: int) -> None:
    x = np.random.default_rng(0).standard_normal((96, 80)).astype(dtype)
    for rounding, seed in ((None, None), ("stochastic", 3)):
        short, long = (
            mxsim.quantize(x, format_name, axis=axis, rounding=rounding, seed=seed, block_size=size) for size in (x.shape[axis], block)
        )
        np.testing.assert_array_equal(long.codes, short.codes)
        np.testing.assert_array_equal(long.scales, short.scales)
        assert long.tensor_scale == short.tensor_scale
        y = mxsim.fake_quantize(x, format_name, axis=axis, rounding=rounding, seed=seed, block_size=block)
        for values in (long.dequantize(), y):
            np.testing.assert_array_equal(values.view(np.uint32), short.dequantize().view(np.uint32))
    assert mxsim.quantize(x[:0, :0], format_name, axis=axis, block_size=block).dequantize().shape == (0, 0)


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_code_under_every_scale(format_name: str) -> None:
    # OCP MX v1.0, 5.1: value = scale x element, a NaN scale makes the block NaN; RNE into float32
    for comparison in exactness.decode_comparisons(format_name):
        comparison.require_equal()


@pytest.mark.parametrize("format_name", FORMATS)
def test_defaults_are_the_policys(format_name: str) -> None:
    # the contract: policy "ocp" is floor and nearest_even
    values = awkward_rows("float32")
    plain = mxsim.quantize(values, format_name)
    rule = None if format_name == "nvfp4" else "floor"
    spelled = mxsim.quantize(values, format_name, axis=1, policy="ocp", scale_rule=rule, rounding="nearest_even")
    np.testing.assert_array_equal(plain.codes, spelled.codes)
    np.testing.assert_array_equal(plain.scales, spelled.scales)


@pytest.mark.parametrize("format_name", FORMATS)
def test_out_receives_the_values(format_name: str) -> None:
    values = awkward_rows("float32")
    expected = exactness.bits_of(mxsim.fake_quantize(values, format_name))
    plain = np.full(values.shape, 7, np.float32)
    strided = np.full((values.shape[1], 2 * values.shape[0]), 7, np.float32).T[::2]
    for out in (plain, strided):
        out[...] = 7
        assert mxsim.fake_quantize(values, format_name, out=out) is out
        np.testing.assert_array_equal(exactness.bits_of(out), expected)
        out[...] = 7
        assert mxsim.quantize(values, format_name).dequantize(out=out) is out
        np.testing.assert_array_equal(exactness.bits_of(out), expected)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("format_name", "policy"),
    [("mxfp8_e5m2", "ocp"), ("mxint8", "auto-round"), ("mxfp4_e2m1", "compressed-tensors"), ("nvfp4", "modelopt")],
)
def test_a_result_that_no_cache_holds(format_name: str, policy: str, first: int) -> None:
    # written past the caches where its memory is aligned for that, here where first is 0
    size = STREAMED // 4 + 5 * 32
    x = np.random.default_rng(1).standard_normal(size, np.float32)
    x[:64], x[-40:-8] = 0, -1e-30
    x[100], x[-1], x[size // 2] = np.nan, np.inf, -(np.float32(2.0) ** 100)
    memory = np.full(size + 8, 7, np.float32)
    start = -memory.ctypes.data // 4 % 4 + first
    out = memory[start : start + size]
    mxsim.fake_quantize(x, format_name, policy=policy, out=out, tensor_scale=0.002 if format_name == "nvfp4" else None)
    expected = mxsim.quantize(x, format_name, policy=policy, tensor_scale=0.002 if format_name == "nvfp4" else None).dequantize()
    assert np.array_equal(out.view(np.int32), expected.view(np.int32))
    assert (memory[:start] == 7).all()
    assert (memory[start + size :] == 7).all()


@pytest.mark.parametrize("format_name", FORMATS)
def test_fake_quantize_in_place(format_name: str) -> None:
    values = awkward_rows("float32")
    expected = exactness.bits_of(mxsim.fake_quantize(values, format_name))
    mxsim.fake_quantize(values, format_name, out=values)
    np.testing.assert_array_equal(exactness.bits_of(values), expected)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_input_is_left_alone(format_name: str) -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        values = awkward_rows(dtype)
        before = values.tobytes()
        mxsim.fake_quantize(values, format_name)
        mxsim.quantize(values, format_name, axis=0).dequantize()
        assert values.tobytes() == before


def test_types_and_shapes() -> None:
    quantized = mxsim.quantize(np.ones((4, 3, 50), ml_dtypes.bfloat16), "mxfp6_e2m3", axis=2)
    assert quantized.codes.dtype == np.uint8
    assert quantized.codes.shape == (4, 3, 50)
    assert quantized.scales.dtype == np.uint8
    assert quantized.scales.shape == (4, 3, 2)
    assert quantized.dequantize().dtype == np.float32
    transposed = quantized.T
    assert transposed.codes.shape == (50, 3, 4)
    assert transposed.scales.shape == (2, 3, 4)
    np.testing.assert_array_equal(transposed.dequantize(), quantized.dequantize().T)


@pytest.mark.parametrize("format_name", FORMATS)
def test_from_codes_takes_what_quantize_gives(format_name: str) -> None:
    values = awkward_rows("float32")
    quantized = mxsim.quantize(values, format_name, axis=0)
    again = mxsim.from_codes(quantized.codes, quantized.scales, format_name, axis=0, tensor_scale=quantized.tensor_scale)
    np.testing.assert_array_equal(exactness.bits_of(again.dequantize()), exactness.bits_of(quantized.dequantize()))


def test_nvfp4_tensor_scale_can_be_given() -> None:
    # nvfp4: block scale = E4M3(amax / 6 / tensor scale); a scale beyond 448 saturates
    values = np.float32([[6.0] * 16, [1.0] * 16, [6e6] * 16])
    quantized = mxsim.quantize(values, "nvfp4", tensor_scale=np.float32(0.5))
    assert quantized.tensor_scale == np.float32(0.5)
    assert quantized.scales.ravel().tolist() == [0x40, 0x2B, 0x7E]
    np.testing.assert_array_equal(quantized.dequantize()[2], np.full(16, 448 * 0.5 * 6, np.float32))


@pytest.mark.parametrize(("amax", "scale"), [(0.0, 1), (2.0**-149, 1), (1343 * 2.0**-149, 1), (1345 * 2.0**-149, 2.0**-149)])
def test_nvfp4_of_a_tensor_whose_scale_would_vanish(amax: float, scale: float) -> None:
    # amax / 2688 rounds to zero up to half the smallest float32: the scale is 1, and every element is zero
    values = np.full((2, 32), amax, np.float32)
    quantized = mxsim.quantize(values, "nvfp4")
    assert quantized.tensor_scale == scale
    assert (quantized.dequantize() == 0).all() == (scale == 1)
    assert mxsim.fake_quantize(values, "nvfp4").tolist() == quantized.dequantize().tolist()


@pytest.mark.parametrize("tensor_scale", [2.0**-149, 3e-42, 1e-38, 0.3, 1e30])
def test_nvfp4_under_any_tensor_scale(tensor_scale: float) -> None:
    # every division and product rounds to float32, subnormals too
    given = np.float32(tensor_scale)
    given_bits = int(given.view(np.uint32))
    spread = np.random.default_rng(14).integers(-12, 14, (40, 1)) + int(np.frexp(given)[1])
    values = np.ldexp(np.random.default_rng(15).standard_normal((40, 32)), spread.clip(-149, 120)).astype(np.float32)
    quantized = mxsim.quantize(values, "nvfp4", tensor_scale=given)
    codes, scales, _ = tensors.quantize(values.view(np.uint32), "nvfp4", tensor_scale=given_bits)
    np.testing.assert_array_equal(quantized.scales, scales)
    np.testing.assert_array_equal(quantized.codes, codes)
    decoded = tensors.dequantize(codes, scales, "nvfp4", tensor_scale=given_bits)
    np.testing.assert_array_equal(exactness.bits_of(quantized.dequantize()), decoded)


@pytest.mark.parametrize("shift", [1, -1])
def test_an_output_that_overlaps_its_input_is_that_of_a_copy(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LEAST_PIECE", 256)  # so that a row is written before the next piece is read
    memory = np.random.default_rng(0).standard_normal((65, 64)).astype(np.float32)
    low, high = (memory[:-1], memory[1:]) if shift > 0 else (memory[1:], memory[:-1])
    expected = mxsim.fake_quantize(low.copy(), "mxfp4_e2m1")
    mxsim.fake_quantize(low, "mxfp4_e2m1", out=high)
    np.testing.assert_array_equal(high, expected)


@pytest.mark.parametrize("every", [slice(None, None, 2), slice(64)])
def test_an_output_in_the_memory_of_a_narrower_input(every: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LEAST_PIECE", 256)
    out = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    x = out.view(ml_dtypes.bfloat16)[:, every] if every.step else out.view(ml_dtypes.bfloat16).reshape(-1)[: 64 * 64].reshape(64, 64)
    x[...] = np.random.default_rng(2).standard_normal((64, 64)).astype(ml_dtypes.bfloat16)
    expected = mxsim.fake_quantize(x.copy(), "mxfp4_e2m1")
    mxsim.fake_quantize(x, "mxfp4_e2m1", out=out)
    np.testing.assert_array_equal(out, expected)


def test_a_shorter_last_piece_into_axes_that_no_view_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LEAST_PIECE", 2 * 8 * 9 * 32)  # pieces of 2, 2 and 1
    x = np.random.default_rng(3).standard_normal((5, 8, 9, 32)).astype(np.float32)
    out = np.empty((5, 9, 8, 32), np.float32).transpose(0, 2, 1, 3)
    mxsim.fake_quantize(x, "mxfp4_e2m1", out=out)
    np.testing.assert_array_equal(out, mxsim.fake_quantize(x, "mxfp4_e2m1"))


@pytest.mark.parametrize("policy_divides", [False, True])
def test_bit_7_of_an_nvfp4_scale_means_nothing(policy_divides: bool) -> None:
    # UE4M3; as matrix units take it
    tensor = {"tensor_divisor": 3.0} if policy_divides else {"tensor_scale": 0.3}
    scales = np.arange(256, dtype=np.uint8).reshape(1, 256)
    codes = np.random.default_rng(4).integers(0, 16, (1, 256 * 16)).astype(np.uint8)
    values = mxsim.from_codes(codes, scales, "nvfp4", **tensor).dequantize()
    np.testing.assert_array_equal(values, mxsim.from_codes(codes, scales & 0x7F, "nvfp4", **tensor).dequantize())
    assert np.isnan(values[0, -16:]).all()
    a, b = (mxsim.from_codes(np.full((1, 16), 2, np.uint8), np.full((1, 1), code, np.uint8), "nvfp4") for code in (0xB8, 0x38))
    assert mxsim.matmul(a, b.T, unit="mx_exact") == a.dequantize() @ b.dequantize().T == 16
