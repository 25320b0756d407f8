"""Element codes as bytes on disk: FP4 two to a byte, FP6 four to three bytes, eight-bit formats as they are.

Source: the layouts that compressed-tensors, Quark, ModelOpt and ONNX agree on: low nibble first, and an LSB-first bit stream for FP6.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError
from mxsim.formats import FORMATS, BlockFormat, ElementFormat, element_format
from mxsim.kernels import packing as kernels

Bytes = npt.NDArray[np.uint8]

_GROUP = {4: 2, 6: 4}  #: codes that fill whole bytes, by their bits


def pack(codes: Bytes, format: str | BlockFormat | ElementFormat) -> Bytes:
    """Pack codes along the last axis.

    Args: codes: (..., K) uint8, right-aligned codes, any strides. format: a block or element format, or its name.
    Returns: (..., ceil(K * bits / 8)) uint8; a row that ends inside a byte is filled up with zero bits.
    """
    element = _element(format)
    _check(codes, "codes")
    if element.bits == 8:
        return codes.copy()
    length = codes.shape[-1]
    whole = _padded(codes, _GROUP[element.bits])
    if kernels.all_bits(whole.reshape(-1)) >= element.codes:
        raise MxsimError(f"codes holds {int(codes.max())}, but {element.name} has codes 0 to {element.codes - 1}")
    if element.bits == 4:
        out = np.empty((*whole.shape[:-1], whole.shape[-1] // 2), np.uint8)
        kernels.pack_pairs(whole.reshape(-1).view(np.uint16), out.reshape(-1))
    else:
        out = np.empty((*whole.shape[:-1], whole.shape[-1] // 4 * 3), np.uint8)
        kernels.pack_quads(whole.reshape(-1).view(np.uint32), out.reshape(-1, 3))
    width = packed_length(length, element)
    return out if out.shape[-1] == width else np.ascontiguousarray(out[..., :width])


def unpack(packed: Bytes, format: str | BlockFormat | ElementFormat, length: int | None = None) -> Bytes:
    """Undo pack.

    Args: packed: (..., bytes) uint8, any strides. length: K, where it is not all the codes that the bytes have room for.
    Returns: (..., K) uint8 codes.
    """
    element = _element(format)
    _check(packed, "packed")
    width = packed.shape[-1]
    room = width * 8 // element.bits
    length = room if length is None else length
    if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
        raise MxsimError(f"length is {length!r}: pass a whole number of codes")
    if packed_length(length, element) != width:
        raise MxsimError(
            f"{length} codes of {element.name} take {packed_length(length, element)} bytes a row, but packed has {width}, "
            f"room for {room}: check length and format"
        )
    if element.bits == 8:
        return packed.copy()
    if element.bits == 4:
        whole = np.ascontiguousarray(packed)
        out = np.empty((*whole.shape[:-1], width * 2), np.uint8)
        kernels.unpack_pairs(whole.reshape(-1), out.reshape(-1).view(np.uint16))
    else:
        whole = _padded(packed, 3)
        out = np.empty((*whole.shape[:-1], whole.shape[-1] // 3 * 4), np.uint8)
        kernels.unpack_quads(whole.reshape(-1, 3), out.reshape(-1).view(np.uint32))
    return out if out.shape[-1] == length else np.ascontiguousarray(out[..., :length])


def packed_length(length: int, format: str | BlockFormat | ElementFormat) -> int:
    """Bytes that a row of `length` codes takes."""
    return -(-length * _element(format).bits // 8)


def _element(format: str | BlockFormat | ElementFormat) -> ElementFormat:
    if isinstance(format, BlockFormat):
        return format.element
    if isinstance(format, str) and format in FORMATS:
        return FORMATS[format].element
    return element_format(format)


def _check(array: Bytes, name: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim == 0:
        got = f"{array.dtype} of {array.ndim} dimensions" if isinstance(array, np.ndarray) else type(array).__name__
        raise MxsimError(f"{name} must be a uint8 array of at least one dimension, got {got}")


def _padded(array: Bytes, multiple: int) -> Bytes:
    """The array in C order, its last axis filled up with zeros to a multiple."""
    *rows, length = array.shape
    if length % multiple == 0:
        return np.ascontiguousarray(array)
    whole = np.zeros((*rows, -(-length // multiple) * multiple), np.uint8)
    whole[..., :length] = array
    return whole
