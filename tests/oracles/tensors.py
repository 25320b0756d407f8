"""The block oracle over whole arrays: numpy is used for shapes alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from tests.oracles import conversion
from tests.oracles.packing import pack_row
from tests.oracles.philox import rounding_word

Bits = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.uint8]

ELEMENT_BITS = {"e5m2": 8, "e4m3": 8, "e3m2": 6, "e2m3": 6, "e2m1": 4, "int8": 8}


def quantize(
    bits: Bits,
    format_name: str,
    axis: int = -1,
    scale_rule: str = "floor",
    rounding: str = "nearest_even",
    block_size: int | None = None,
    seed: int | None = None,
    tensor_scale: int | None = None,
) -> tuple[Codes, Codes, int | None]:
    """float32 bits to (codes, scales, tensor scale bits or None) under the policy "ocp"."""
    element, own_size = conversion.BLOCK_FORMATS[format_name]
    size = block_size or own_size
    if format_name == "nvfp4" and tensor_scale is None:
        tensor_scale = conversion.nvfp4_tensor_scale([int(value) for value in bits.ravel()])
    words = np.zeros(bits.shape, np.uint32)
    if rounding == "stochastic":
        assert seed is not None
        words = np.array([_word(i, seed) for i in range(bits.size)], np.uint32).reshape(bits.shape)
    rows, row_words = np.moveaxis(bits, axis, -1), np.moveaxis(words, axis, -1)
    codes = np.zeros(rows.shape, np.uint8)
    scales = np.zeros((*rows.shape[:-1], -(-rows.shape[-1] // size)), np.uint8)
    for row in np.ndindex(rows.shape[:-1]):
        for block in range(scales.shape[-1]):
            part = slice(block * size, (block + 1) * size)
            values, random = rows[row][part].tolist(), row_words[row][part].tolist()
            if tensor_scale is not None:
                block_codes, scale = conversion.nvfp4_quantize_block(values, tensor_scale, rounding, random)
            else:
                block_codes, scale = conversion.quantize_block(values, element, scale_rule, rounding, random)
            codes[row][part], scales[(*row, block)] = block_codes, scale
    return np.moveaxis(codes, -1, axis), np.moveaxis(scales, -1, axis), tensor_scale


def dequantize(
    codes: Codes,
    scales: Codes,
    format_name: str,
    axis: int = -1,
    block_size: int | None = None,
    tensor_scale: int | None = None,
) -> Bits:
    """Codes and scales to float32 bits."""
    element, own_size = conversion.BLOCK_FORMATS[format_name]
    size = block_size or own_size
    rows, row_scales = np.moveaxis(codes, axis, -1), np.moveaxis(scales, axis, -1)
    bits = np.zeros(rows.shape, np.uint32)
    for row in np.ndindex(rows.shape[:-1]):
        for block in range(row_scales.shape[-1]):
            part = slice(block * size, (block + 1) * size)
            block_codes, scale = rows[row][part].tolist(), int(row_scales[(*row, block)])
            if format_name == "nvfp4":
                step = conversion.ONE if tensor_scale is None else tensor_scale
                bits[row][part] = conversion.nvfp4_dequantize_block(block_codes, scale, step)
            else:
                bits[row][part] = conversion.dequantize_block(block_codes, scale, element)
    return np.moveaxis(bits, -1, axis)


def packed_rows(codes: Codes, format_name: str, axis: int = -1) -> Codes:
    """The elements' bytes: the blocked axis last, every row a bit stream of its own, padded to whole bytes."""
    width = ELEMENT_BITS[conversion.BLOCK_FORMATS[format_name][0]]
    rows = np.moveaxis(codes, axis, -1)
    packed = np.zeros((*rows.shape[:-1], -(-rows.shape[-1] * width // 8)), np.uint8)
    for row in np.ndindex(rows.shape[:-1]):
        packed[row] = list(pack_row(rows[row].tolist(), width))
    return packed


@cache
def _word(index: int, seed: int) -> int:
    return rounding_word(index, seed)
