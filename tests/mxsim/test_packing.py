"""Bytes on disk."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from onnx import numpy_helper

import mxsim
from tests.oracles import conversion, packing, tensors

FORMATS = tuple(conversion.BLOCK_FORMATS)


def coded(format_name: str, shape: tuple[int, ...], axis: int, seed: int = 3) -> mxsim.MXTensor:
    """Random codes and scales."""
    rng = np.random.default_rng(seed)
    width = tensors.ELEMENT_BITS[conversion.BLOCK_FORMATS[format_name][0]]
    scale_shape = list(shape)
    scale_shape[axis] = -(-shape[axis] // mxsim.FORMATS[format_name].block_size)
    codes = rng.integers(0, 1 << width, shape, dtype=np.uint8)
    return mxsim.from_codes(codes, rng.integers(0, 256, scale_shape, dtype=np.uint8), format_name, axis=axis)


def fp6_tensor(codes: list[int]) -> npt.NDArray[np.uint8]:
    scales = np.array([127], np.uint8)
    return mxsim.from_codes(np.array(codes, np.uint8), scales, "mxfp6_e3m2").packed()[0]


def test_fp6_is_an_lsb_first_stream() -> None:
    assert fp6_tensor([1, 2, 3, 4]).tobytes().hex() == "813010"


def test_fp4_low_nibble_first() -> None:
    tensor = mxsim.from_codes(np.array([0x1, 0x2, 0xF], np.uint8), np.array([127], np.uint8), "mxfp4_e2m1")
    assert tensor.packed()[0].tobytes().hex() == "210f"


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("format_name", FORMATS)
def test_against_the_oracle(format_name: str, axis: int) -> None:
    # rows lie along the blocked axis, moved last; each is padded to whole bytes by itself
    tensor = coded(format_name, (3, 33, 5), axis)
    element_bytes, scale_bytes = tensor.packed()
    np.testing.assert_array_equal(element_bytes, tensors.packed_rows(tensor.codes, format_name, axis))
    np.testing.assert_array_equal(scale_bytes, np.moveaxis(tensor.scales, axis, -1))
    assert element_bytes.dtype == scale_bytes.dtype == np.uint8


@pytest.mark.parametrize("length", [*range(1, 13), 31, 32, 64, 65])
@pytest.mark.parametrize("format_name", ["mxfp6_e3m2", "mxfp6_e2m3", "mxfp4_e2m1", "nvfp4"])
def test_every_row_length_unpacks(format_name: str, length: int) -> None:
    tensor = coded(format_name, (2, length), 1, seed=length)
    element_bytes, _ = tensor.packed()
    width = tensors.ELEMENT_BITS[conversion.BLOCK_FORMATS[format_name][0]]
    for row, codes in zip(element_bytes, tensor.codes, strict=True):
        assert packing.unpack_row(row.tobytes(), width, length) == codes.tolist()


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_fp4_packs_as_onnx_does(length: int) -> None:
    codes = np.random.default_rng(length).integers(0, 16, length, dtype=np.uint8)
    scales = np.full(-(-length // 32), 127, np.uint8)
    packed, _ = mxsim.from_codes(codes, scales, "mxfp4_e2m1").packed()
    assert packed.tobytes() == numpy_helper.from_array(codes.view(ml_dtypes.float4_e2m1fn)).raw_data


@pytest.mark.parametrize("format_name", FORMATS)
def test_sizes_are_the_footprint(format_name: str) -> None:
    # cost-model: bytes = rows * ceil(K / block) * (block * element bits + scale bits) / 8
    element_bytes, scale_bytes = coded(format_name, (4, 128), 1).packed()
    bits = mxsim.FORMATS[format_name].bits_per_element
    assert element_bytes.size + scale_bytes.size == 4 * 128 * bits / 8


@pytest.mark.parametrize(("name", "largest"), [("e2m1", 15), ("e2m3", 63), ("e3m2", 63)])
def test_a_code_that_the_format_lacks_is_refused(name: str, largest: int) -> None:
    codes = np.array([[0, 0, largest]], np.uint8)
    assert mxsim.unpack(mxsim.pack(codes, name), name, 3).tolist() == codes.tolist()
    codes[0, 2] += 1
    with pytest.raises(mxsim.MxsimError, match=rf"codes holds {largest + 1}, but {name} has codes 0 to {largest}"):
        mxsim.pack(codes, name)


@pytest.mark.parametrize(("name", "width", "lengths"), [("e2m1", 3, (5, 6)), ("e3m2", 3, (3, 4)), ("e3m2", 4, (5,)), ("e4m3", 3, (3,))])
def test_a_length_that_the_bytes_do_not_hold_is_refused(name: str, width: int, lengths: tuple[int, ...]) -> None:
    packed = np.zeros((2, width), np.uint8)
    for length in range(9):
        if length in lengths:
            assert mxsim.unpack(packed, name, length).shape == (2, length)
        else:
            with pytest.raises(mxsim.MxsimError, match=f"{length} codes of {name} take .* but packed has {width}"):
                mxsim.unpack(packed, name, length)
    assert mxsim.unpack(packed, name).shape == (2, lengths[-1])
    with pytest.raises(mxsim.MxsimError, match="length is True: pass a whole number of codes"):
        mxsim.unpack(packed[:, :1], name, True)


@pytest.mark.parametrize("array", [np.uint8(3), np.array(3, np.uint8), np.zeros(4, np.int8), [1, 2]])
def test_what_is_no_array_of_bytes_is_refused(array: Any) -> None:
    for call in (mxsim.pack, mxsim.unpack):
        with pytest.raises(mxsim.MxsimError, match="must be a uint8 array of at least one dimension"):
            call(array, "e2m1")
