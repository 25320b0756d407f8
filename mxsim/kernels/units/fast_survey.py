"""What a fast kernel needs to know of an operand beforehand or afterwards: the exponents of each row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import float_bits

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

NONE = 1 << 20  #: lowest exponent of a row of zeros, and minus its highest; highest of a row with Inf or NaN


@njit(parallel=True, cache=True)
def survey(
    values: Float32, scales: Int32, block: int, emin: int, lowest: Int32, highest: Int32, span: Int32, empty: npt.NDArray[np.bool_]
) -> None:
    """Widen each row's range of exponents by a panel of it.

    Args:
        values: (rows, K), of a format whose numbers have exponents from emin
        scales: (rows, ceil(K / block)), exponents added to those of a block; above 127 is NaN
        lowest, highest: (rows,), of the numbers that are not zero, scaled
        span: (rows,), the most that highest - lowest is within a block
        empty: (rows, ceil(K / block)), which blocks are all zeros
    """
    rows, K = values.shape
    for row in prange(rows):
        for g in range(scales.shape[1]):
            low, high = NONE, -NONE
            for k in range(g * block, min(g * block + block, K)):
                bits = float_bits(values[row, k]) & 0x7FFFFFFF
                exponent = max((bits >> 23) - 127, emin)
                if bits != 0:
                    low = min(low, exponent)
                high = max(high, exponent if bits != 0 else -NONE)
            empty[row, g] = high == -NONE
            if high > 127 or scales[row, g] > 127:
                highest[row] = NONE
            elif high != -NONE:
                lowest[row] = min(lowest[row], low + scales[row, g])
                highest[row] = max(highest[row], high + scales[row, g])
                span[row] = max(span[row], high - low)
