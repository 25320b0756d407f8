"""What a layer's golden outputs must be: inputs quantised and multiplied in exact arithmetic, from the stored codes alone."""

from __future__ import annotations

import numpy as np

from tests.oracles import conversion, tensors
from tests.oracles.packing import unpack_row
from tests.oracles.tensors import ELEMENT_BITS, Bits, Codes
from tests.oracles.units import dot
from tests.oracles.units.numbers import decode, encode


def unpacked(packed: Codes, format_name: str, columns: int) -> Codes:
    """Rows of element bytes (n, bytes) to codes (n, columns)."""
    bits = ELEMENT_BITS[conversion.BLOCK_FORMATS[format_name][0]]
    return np.array([unpack_row(row.tobytes(), bits, columns) for row in packed], np.uint8)


def outputs(
    unit: str,
    inputs: Bits,
    activation: str,
    codes: Codes,
    scales: Codes,
    weight: str,
    tensor_scale: int | None = None,
) -> Bits:
    """inputs (N, in), float32 bits, under the policy "ocp"; codes (out, in) and scales of the weight, tensor_scale in float32 bits.

    activation: a block format; anything else is bfloat16, which the inputs must hold exactly and the weights are rounded to.
    Returns: (N, out) float32 bits.
    """
    if activation not in conversion.BLOCK_FORMATS:
        values = tensors.dequantize(codes, scales, weight, tensor_scale=tensor_scale)
        rows, columns = (inputs >> 16).tolist(), [[_bfloat16(bits) for bits in row] for row in values.tolist()]
        return np.array([[dot(unit, row, "bf16", column, "bf16") for column in columns] for row in rows], np.uint32)
    left, left_scales, left_tensor_scale = tensors.quantize(inputs, activation)
    a, b = (conversion.BLOCK_FORMATS[name] for name in (activation, weight))
    scale_format = "ue4m3" if weight == "nvfp4" else "e8m0"
    result = np.array(
        [
            [
                dot(unit, row.tolist(), a[0], column.tolist(), b[0], row_scales.tolist(), column_scales.tolist(), scale_format, b[1])
                for column, column_scales in zip(codes, scales, strict=True)
            ]
            for row, row_scales in zip(left, left_scales, strict=True)
        ],
        np.uint32,
    )
    if left_tensor_scale is None or tensor_scale is None:
        return result
    factor = conversion.float32_multiply(left_tensor_scale, tensor_scale)
    return np.array([[conversion.float32_multiply(bits, factor) for bits in row] for row in result.tolist()], np.uint32)


def _bfloat16(bits: int) -> int:
    number = decode("fp32", bits)
    return encode(number.value, "bf16", "rne", negative_zero=number.negative)
