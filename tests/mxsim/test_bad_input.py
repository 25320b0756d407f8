"""Input that is wrong, odd or empty: a clear MxsimError, or the right answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mxsim
from mxsim import elements

FORMATS = tuple(mxsim.FORMATS)
ONES = np.ones((4, 64), np.float32)
CODES, SCALES = np.zeros((4, 64), np.uint8), np.full((4, 2), 127, np.uint8)
CONVERTERS: tuple[Callable[..., Any], ...] = (mxsim.quantize, mxsim.fake_quantize)


def test_error_type() -> None:
    assert issubclass(mxsim.MxsimError, ValueError)


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize(
    "values",
    [
        np.ones((2, 32), np.float64),
        np.ones((2, 32), np.int32),
        np.ones((2, 32), np.uint8),
        np.ones((2, 32), bool),
        np.ones((2, 32), np.complex64),
        np.ones((2, 32), object),
        np.ones((2, 32), ">f4" if np.little_endian else "<f4"),
        np.full((2, 32), "1"),
        np.float32(1.0),
        np.array(1.0, np.float32),
        None,
        "1.0",
    ],
    ids=["float64", "int32", "uint8", "bool", "complex", "object", "foreign byte order", "str", "scalar", "0-d", "None", "text"],
)
def test_refused_values(convert: Callable[..., Any], values: Any) -> None:
    with pytest.raises(mxsim.MxsimError):
        convert(values, "mxfp4_e2m1")


@pytest.mark.parametrize("convert", CONVERTERS)
def test_refused_dtype_is_named_with_the_remedy(convert: Callable[..., Any]) -> None:
    with pytest.raises(mxsim.MxsimError, match=r"float64.*float32"):
        convert(np.ones((2, 32)), "mxfp4_e2m1")


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ({"format": "mxfp4"}, "mxfp4_e2m1"),
        ({"format": "MXFP8_E4M3"}, "mxfp8_e4m3"),
        ({"format": "mxfp8-e5m2"}, "mxfp8_e5m2"),
        ({"scale_rule": "flor"}, "floor"),
        ({"scale_rule": "r-ceil"}, "rceil"),
        ({"rounding": "nearest-even"}, "nearest_even"),
        ({"rounding": "stocastic"}, "stochastic"),
        ({"policy": "opc"}, "ocp"),
        ({"policy": "torch-ao"}, "torchao"),
    ],
)
def test_unknown_names_meet_the_nearest(convert: Callable[..., Any], arguments: dict[str, str], nearest: str) -> None:
    with pytest.raises(mxsim.MxsimError, match=f"'{nearest}'"):
        convert(ONES, **{"format": "mxfp4_e2m1", **arguments})


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize("name", [None, 3, "", ("mxfp4_e2m1",), []])
def test_a_format_is_a_name(convert: Callable[..., Any], name: Any) -> None:
    with pytest.raises(mxsim.MxsimError):
        convert(ONES, name)


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"axis": 2},
        {"axis": -3},
        {"axis": 1.0},
        {"axis": None},
        {"axis": "1"},
        {"block_size": 0},
        {"block_size": -32},
        {"block_size": 32.0},
        {"block_size": "32"},
        {"block_size": True},
        {"block_size": np.array([1, 2])},
        {"rounding": "stochastic"},
        {"rounding": "stochastic", "seed": -1},
        {"rounding": "stochastic", "seed": 1 << 64},
        {"rounding": "stochastic", "seed": 1.5},
        {"rounding": "stochastic", "seed": "7"},
        {"tensor_scale": np.float32(2.0)},
    ],
    ids=str,
)
def test_refused_arguments(convert: Callable[..., Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(mxsim.MxsimError):
        convert(ONES, "mxfp4_e2m1", **arguments)


@pytest.mark.parametrize("convert", CONVERTERS)
def test_missing_seed_says_so(convert: Callable[..., Any]) -> None:
    with pytest.raises(mxsim.MxsimError, match="seed"):
        convert(ONES, "mxfp4_e2m1", rounding="stochastic")


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize("tensor_scale", [0.0, -1.0, np.nan, np.inf, "1", 10**400])
def test_refused_tensor_scales(convert: Callable[..., Any], tensor_scale: Any) -> None:
    with pytest.raises(mxsim.MxsimError):
        convert(ONES, "nvfp4", tensor_scale=tensor_scale)


@pytest.mark.parametrize("convert", CONVERTERS)
def test_a_tensor_scale_whose_divisor_is_infinite_is_refused_where_that_is_stored(convert: Callable[..., Any]) -> None:
    with pytest.raises(mxsim.MxsimError, match=r"divides by 1e\+45, which float32 does not hold: pass at least 2.94e-39"):
        convert(ONES, "nvfp4", policy="compressed-tensors", tensor_scale=1e-45)
    convert(ONES, "nvfp4", policy="compressed-tensors", tensor_scale=2.94e-39)
    convert(ONES, "nvfp4", policy="modelopt", tensor_scale=1e-45)


@pytest.mark.parametrize("convert", CONVERTERS)
def test_integers_of_numpy_are_integers(convert: Callable[..., Any]) -> None:
    convert(ONES, "mxfp4_e2m1", axis=np.int64(1), block_size=np.int32(16))
    convert(ONES, "mxfp4_e2m1", rounding="stochastic", seed=np.uint64(7))


def read_only() -> Any:
    array = np.empty((4, 64), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "out",
    [
        np.empty((4, 64), np.float64),
        np.empty((4, 64), np.float16),
        np.empty((64, 4), np.float32),
        np.empty(256, np.float32),
        np.empty((1, 4, 64), np.float32),
        read_only(),
        [[0.0]],
    ],
    ids=["float64", "float16", "transposed", "flat", "extra axis", "read-only", "list"],
)
def test_refused_out(out: Any) -> None:
    with pytest.raises(mxsim.MxsimError, match="out"):
        mxsim.fake_quantize(ONES, "mxfp4_e2m1", out=out)
    with pytest.raises(mxsim.MxsimError, match="out"):
        mxsim.quantize(ONES, "mxfp4_e2m1").dequantize(out=out)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    ("shape", "axis", "scale_shape"),
    [((0,), 0, (0,)), ((0, 32), 1, None), ((4, 0), 1, (4, 0)), ((4, 0, 64), -1, None), ((0, 5), 0, (0, 5))],
)
def test_empty_arrays(format_name: str, shape: tuple[int, ...], axis: int, scale_shape: tuple[int, ...] | None) -> None:
    values = np.empty(shape, np.float32)
    quantized = mxsim.quantize(values, format_name, axis=axis)
    blocks = -(-shape[axis] // mxsim.FORMATS[format_name].block_size)
    assert quantized.codes.shape == shape
    assert quantized.scales.shape == (scale_shape or (*shape[:-1], blocks))
    assert quantized.dequantize().shape == shape
    assert mxsim.fake_quantize(values, format_name, axis=axis).shape == shape
    element_bytes, scale_bytes = quantized.packed()
    assert element_bytes.size == scale_bytes.size == 0


def test_read_only_input() -> None:
    values = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    expected = mxsim.fake_quantize(values, "mxfp8_e4m3")
    locked = values.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(mxsim.fake_quantize(locked, "mxfp8_e4m3"), expected)


@pytest.mark.parametrize(
    ("codes", "scales", "format_name", "options"),
    [
        (CODES.astype(np.int8), SCALES, "mxfp8_e4m3", {}),
        (CODES.astype(np.float32), SCALES, "mxfp8_e4m3", {}),
        (CODES, SCALES.astype(np.int32), "mxfp8_e4m3", {}),
        (CODES, SCALES[:, :1], "mxfp8_e4m3", {}),
        (CODES, SCALES[:2], "mxfp8_e4m3", {}),
        (CODES, SCALES.ravel(), "mxfp8_e4m3", {}),
        (CODES, SCALES, "mxfp8_e4m3", {"axis": 0}),
        (CODES, SCALES, "mxfp8_e4m3", {"axis": 2}),
        (CODES, SCALES, "mxfp9", {}),
        (CODES, SCALES, "mxfp8_e4m3", {"tensor_scale": np.float32(1)}),
        (CODES + np.uint8(16), SCALES, "mxfp4_e2m1", {}),
        (CODES + np.uint8(64), SCALES, "mxfp6_e3m2", {}),
        (CODES[0, 0], SCALES[0, 0], "mxfp8_e4m3", {}),
        (CODES.tolist(), None, "mxfp8_e4m3", {}),
    ],
)
def test_refused_codes(codes: Any, scales: Any, format_name: str, options: dict[str, Any]) -> None:
    with pytest.raises(mxsim.MxsimError):
        mxsim.from_codes(codes, scales, format_name, **options)


def test_any_scale_code_is_taken() -> None:
    # the contract: E8M0 255 means NaN and is no error
    scales = np.array([[0, 255], [254, 1], [127, 255], [255, 255]], np.uint8)
    decoded = mxsim.from_codes(CODES + np.uint8(1), scales, "mxfp8_e4m3").dequantize()
    assert (np.isnan(decoded).reshape(4, 2, 32).all(axis=2) == (scales == 255)).all()
    assert decoded.view(np.uint32)[3, 0] == 0x7FC00000


@pytest.mark.parametrize("name", ["e9m9", "E4M3", "mxfp4_e2m1", None])
def test_unknown_elements(name: Any) -> None:
    with pytest.raises(mxsim.MxsimError, match="e4m3"):
        elements.decode(CODES, name)
    with pytest.raises(mxsim.MxsimError, match="e4m3"):
        elements.encode(ONES, name)


def test_refused_element_arguments() -> None:
    with pytest.raises(mxsim.MxsimError):
        elements.decode(CODES.astype(np.int64), "e4m3")
    with pytest.raises(mxsim.MxsimError):
        elements.decode(CODES + np.uint8(16), "e2m1")
    with pytest.raises(mxsim.MxsimError):
        elements.encode(ONES.astype(np.float64), "e4m3")
    with pytest.raises(mxsim.MxsimError, match="nearest_even"):
        elements.encode(ONES, "e4m3", rounding="nearest")


@pytest.mark.parametrize("convert", CONVERTERS)
def test_a_masked_array_is_refused(convert: Callable[..., Any]) -> None:
    with pytest.raises(mxsim.MxsimError, match=r"x is a masked array.*filled"):
        convert(np.ma.masked_array(ONES, ONES > 0), "mxfp4_e2m1")


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize("argument", ["policy", "scale_rule", "rounding", "format"])
def test_a_list_where_a_name_belongs_is_an_unknown_name(convert: Callable[..., Any], argument: str) -> None:
    with pytest.raises(mxsim.UnknownNameError, match=r"unknown .* \[\]"):
        convert(ONES, **{"format": "mxfp4_e2m1", argument: []})


@pytest.mark.parametrize("length", [5.0, True, "8"])
def test_a_length_that_is_no_whole_number_is_refused(length: Any) -> None:
    with pytest.raises(mxsim.MxsimError, match="pass a whole number of codes"):
        mxsim.unpack(np.zeros((2, 4), np.uint8), "mxfp4_e2m1", length)


def test_only_a_name_that_is_near_is_suggested() -> None:
    with pytest.raises(mxsim.UnknownNameError) as caught:
        mxsim.quantize(ONES, "mxfp4_e2m1", policy="foo")
    assert "did you mean" not in str(caught.value)
