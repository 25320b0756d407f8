"""Element codes and scales to float32 values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import bits_float, float_bits
from mxsim.kernels.parameters import ElementGrid
from mxsim.kernels.threads import CHUNK, first_block

Bytes = npt.NDArray[np.uint8]


@njit(parallel=True, cache=True)
def dequantize_blocks(
    codes: Bytes,
    scales: Bytes,
    out: npt.NDArray[np.float32],
    element_values: npt.NDArray[np.float32],
    scale_values: npt.NDArray[np.float32],
    grid: ElementGrid,
    bias_bits: np.int32,
    smallest: np.float32,
) -> None:
    """codes (n, B), scales (n,) to values (n, B).

    element_values, scale_values: (codes,) of each format. bias_bits: what turns an element's exponent bits into a float32's.
    smallest: the quantum of subnormals, and of fixed point.
    """
    chunks = (codes.shape[0] + CHUNK - 1) // CHUNK
    for turn in prange(chunks):
        first = first_block(turn, chunks)
        cs, ys = codes[first : first + CHUNK], out[first : first + CHUNK]
        for b in range(cs.shape[0]):
            scale = scale_values[scales[first + b]]
            if scale != scale:
                ys[b] = np.float32(np.nan)
                continue
            if grid.fixed_point:
                for k in range(cs.shape[1]):
                    ys[b, k] = np.float32(np.int8(cs[b, k])) * smallest * scale
                continue
            largest = np.int32(0)
            for k in range(cs.shape[1]):
                largest = max(largest, np.int32(cs[b, k] & ~grid.sign_mask))
            if largest > grid.max_code:
                for k in range(cs.shape[1]):
                    ys[b, k] = element_values[cs[b, k]] * scale
                continue
            first_normal = np.int32(1 << (23 - grid.shift))
            for k in range(cs.shape[1]):
                magnitude = np.int32(cs[b, k] & ~grid.sign_mask)
                normal = bits_float(np.int32((magnitude << grid.shift) + bias_bits))
                value = normal if magnitude >= first_normal else np.float32(magnitude) * smallest
                sign = np.int32(np.int32(cs[b, k] & grid.sign_mask) != 0) << 31
                ys[b, k] = bits_float(float_bits(np.float32(value * scale)) | sign)
