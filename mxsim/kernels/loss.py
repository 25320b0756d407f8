"""What quantising an array lost, counted in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, prange

CHUNK = 1 << 16  #: elements summed by themselves: sums must not depend on the number of threads


class Losses(NamedTuple):
    """One entry a chunk."""

    signal: npt.NDArray[np.float64]  #: sum of squares of the inputs that are finite before and after
    noise: npt.NDArray[np.float64]  #: sum of squares of their errors
    max_error: npt.NDArray[np.float64]
    saturated: npt.NDArray[np.int64]
    flushed: npt.NDArray[np.int64]
    nonfinite: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]  #: finite before, Inf or NaN after: in no other count


@njit(parallel=True, cache=True)
def losses(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], codes: npt.NDArray[np.uint8], max_code: int, sign_mask: int) -> Any:
    """x (n,) before, y (n,) after, codes (n,). sign_mask: 0 where codes are two's complement. Returns: the fields of Losses."""
    chunks = (x.size + CHUNK - 1) // CHUNK
    signal, noise, max_error = np.zeros(chunks), np.zeros(chunks), np.zeros(chunks)
    saturated, flushed = np.zeros(chunks, np.int64), np.zeros(chunks, np.int64)
    nonfinite, lost = np.zeros(chunks, np.int64), np.zeros(chunks, np.int64)
    for chunk in prange(chunks):
        squares = errors = largest = 0.0
        top = zeros = odd = gone = 0
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, x.size)):
            before, after = np.float64(x[i]), np.float64(y[i])
            if not abs(before) < np.inf:
                odd += 1
                continue
            if not abs(after) < np.inf:
                gone += 1
                continue
            error = abs(before - after)
            squares += before * before
            errors += error * error
            largest = max(largest, error)
            code = np.int64(codes[i])
            magnitude = code & ~sign_mask if sign_mask else np.int64(abs(np.int64(np.int8(codes[i]))))
            top += int(magnitude == max_code and abs(before) > abs(after))
            zeros += int(after == 0 and before != 0)
        signal[chunk], noise[chunk], max_error[chunk] = squares, errors, largest
        saturated[chunk], flushed[chunk], nonfinite[chunk], lost[chunk] = top, zeros, odd, gone
    return signal, noise, max_error, saturated, flushed, nonfinite, lost
