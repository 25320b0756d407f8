"""The face of mxsim.matmul: what it refuses, no products at all, stray bits, tensor scales."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import mxsim
from mxsim.units import engine

ONES = np.ones((2, 32), np.float16)
BLOCKS = mxsim.quantize(np.ones((2, 32), np.float32), "mxfp8_e4m3")
WIDE = mxsim.quantize(np.ones((32, 32), np.float32), "mxfp8_e4m3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"c": np.ones((2, 3), np.float32)}, r"c is float32 \(2, 3\): pass float32 or float16 of shape \(2, 2\)"),
        ({"c": np.ones((2, 2))}, r"c is float64 \(2, 2\): pass float32 or float16"),
        ({"c": 1.0}, "c is float: pass float32 or float16"),
        ({"out": "bf16"}, "out is 'bf16': write fp32 or fp16"),
        ({"in_format": "bf16"}, "in_format is 'bf16': it says what float32 arrays hold, fp32 or tf32"),
        ({"a": ONES.tolist()}, "a is a list: pass an MXTensor"),
        ({"a": ONES.astype(np.float64)}, r"a has dtype float64, .* cast it with \.astype\(numpy\.float32\)"),
        ({"a": ONES.astype(np.int8)}, "a has dtype int8, .* quantise or cast it to one of these"),
        ({"a": ONES[0]}, r"a has 1 dimensions, shape \(32,\): pass a matrix"),
        ({"a": ONES, "b": ONES}, r"a is \(2, 32\) and b is \(2, 32\): .* with one K, or b\.T"),
        ({"b": ONES.T[:31]}, r"a is \(2, 32\) and b is \(31, 2\): .* with one K$"),
        ({"a": BLOCKS, "b": WIDE}, r"b is blocked along axis 1, but its K is axis 0: pass \.T of a tensor"),
        ({"a": WIDE.T, "b": BLOCKS.T}, "a is blocked along axis 0, but its K is axis 1: pass a tensor quantised along its last axis"),
        ({"a": mxsim.quantize(np.ones((2, 32), np.float32), "mxfp8_e4m3", block_size=16), "b": BLOCKS.T}, "a has blocks of 16, but .* 32"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(mxsim.MxsimError, match=message):
        mxsim.matmul(**({"a": ONES, "b": ONES.T} | arguments))


@pytest.mark.parametrize(("unit", "nan"), [("nvidia_volta", 0x7FFFFFFF), ("amd_cdna1", 0x7FC00000)])
def test_without_products_c_comes_through_and_nan_has_the_units_bits(unit: str, nan: int) -> None:
    c = np.array([0x3F800001, 0x80000000, 0xFFC12345], np.uint32).view(np.float32)[None]
    d = mxsim.matmul(ONES[:1, :0], np.ones((0, 3), np.float16), unit=unit, c=c)
    assert d.view(np.uint32).tolist() == [[0x3F800001, 0x80000000, nan]]
    assert not mxsim.matmul(ONES[:, :0], np.ones((0, 3), np.float16), unit=unit).any()


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(ml_dtypes.float6_e3m2fn, 6), (ml_dtypes.float6_e2m3fn, 6), (ml_dtypes.float4_e2m1fn, 4), (ml_dtypes.float8_e4m3fn, 8)],
)
@pytest.mark.parametrize("unit", ["nvidia_blackwell", "mx_exact"])
def test_what_stands_above_a_narrow_code_means_nothing(unit: str, dtype: Any, bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 256, (8, 40)).astype(np.uint8)
    codes[codes & 0x7F == 0x7F] = 0
    plain = (codes & ((1 << bits) - 1)).astype(np.uint8)
    x, y = codes.view(dtype), plain.view(dtype)
    np.testing.assert_array_equal(mxsim.matmul(x, x.T, unit=unit), mxsim.matmul(y, y.T, unit=unit))


def test_tensor_scales_are_one_fp32_product() -> None:
    """16 products of ones and C, times the float32 product of both tensor scales."""
    scales = np.float32([0.1, 0.7])
    a, b = (
        mxsim.from_codes(np.full((rows, 16), 2, np.uint8), np.full((rows, 1), 0x38, np.uint8), "nvfp4", tensor_scale=float(s))
        for rows, s in zip((1, 64), scales, strict=True)
    )
    c = np.arange(64, dtype=np.float32).reshape(1, 64) / 64
    sums, factor = 16 + c, np.float32(scales[0] * scales[1])
    d = mxsim.matmul(a, b.T, unit="mx_exact", c=c)
    np.testing.assert_array_equal(d, sums * factor)
    assert (d != (sums.astype(np.float64) * (float(scales[0]) * float(scales[1]))).astype(np.float32)).any()  # the test can fail


@pytest.mark.parametrize(("unit", "nan"), [("nvidia_blackwell", 0x7FFFFFFF), ("mx_exact", 0x7FC00000)])
def test_infinity_under_a_tensor_scale_that_vanishes_is_the_units_nan(unit: str, nan: int) -> None:
    a = mxsim.from_codes(np.zeros((1, 16), np.uint8), np.full((1, 1), 0x38, np.uint8), "nvfp4", tensor_scale=1e-30)
    d = mxsim.matmul(a, a.T, unit=unit, c=np.float32([[np.inf]]))
    assert d.view(np.uint32) == nan


@pytest.mark.parametrize(("unit", "out", "format"), [("riscv_bulknorm", "fp32", None), ("mx_exact", "fp16", "mxfp8_e4m3")])
def test_panels_change_nothing(unit: str, out: str, format: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many outputs as are decoded at once, and more: each from its own row, its own column and its own C."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((rows, 40)).astype(np.float32) for rows in (70, 140))
    a, b = (mxsim.quantize(v, format) if format else v.astype(ml_dtypes.bfloat16) for v in (x, y))
    c = rng.standard_normal((70, 140)).astype(np.float32)
    whole = mxsim.matmul(a, b.T, unit=unit, c=c, out=out)
    monkeypatch.setattr(engine, "PANEL", 1)  # of 64 rows
    np.testing.assert_array_equal(mxsim.matmul(a, b.T, unit=unit, c=c, out=out), whole)
