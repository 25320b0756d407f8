"""Rows of any layout and float type to contiguous float32 rows, and results back to any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange, types
from numba.extending import overload

from mxsim.kernels.bits import bits_float

TILE = 16  #: rows gathered together; where their elements are neighbours in memory, through squares that stay in registers and L1


def widened(value: Any) -> Any:
    """A stored element as float32: float32 itself, bfloat16 seen as uint16, float16 seen as int16. Compiled code only."""
    raise TypeError("for compiled code")


@overload(widened)
def _widened(value: Any) -> Any:
    def float32(value: Any) -> Any:
        return value

    def bfloat16(value: Any) -> Any:
        return bits_float(np.int64(value) << 16)

    def float16(value: Any) -> Any:
        magnitude = np.int64(value) & 0x7FFF
        # The product turns float16 subnormals, which are float32 ones here, into normal numbers.
        finite = bits_float(magnitude << 13) * np.float32(2.0**112)
        wide = finite if magnitude < 0x7C00 else bits_float(0x7F800000 | ((magnitude & 0x3FF) << 13))
        return -wide if value < 0 else wide

    return {types.float32: float32, types.uint16: bfloat16, types.int16: float16}[value]


@njit(parallel=True, cache=True)
def gather_rows(x: npt.NDArray[Any], out: npt.NDArray[np.float32], rows_adjacent: bool) -> None:
    """x (A, B, K) of float32, uint16 (bfloat16) or int16 (float16), any strides, to the first K columns of out (A * B, >= K).

    rows_adjacent: whether x[a, b, k] and x[a, b + 1, k] are neighbours in memory, rather than x[a, b, k] and x[a, b, k + 1].
    """
    tiles = (x.shape[1] + TILE - 1) // TILE
    for tile in prange(x.shape[0] * tiles):
        a, first = tile // tiles, tile % tiles * TILE
        part = x[a, first : first + TILE]
        rows = out[a * x.shape[1] + first : a * x.shape[1] + min(first + TILE, x.shape[1])]
        if rows_adjacent:
            square = np.empty((TILE, TILE), np.float32)
            for start in range(0, part.shape[1], TILE):
                corner, target = part[:, start : start + TILE], rows[:, start : start + TILE]
                for k in range(corner.shape[1]):
                    for r in range(corner.shape[0]):
                        square[k, r] = widened(corner[r, k])
                for r in range(corner.shape[0]):
                    for k in range(corner.shape[1]):
                        target[r, k] = square[k, r]
        else:
            for r in range(part.shape[0]):
                for k in range(part.shape[1]):
                    rows[r, k] = widened(part[r, k])
        for r in range(part.shape[0]):
            rows[r, part.shape[1] :] = 0


@njit(parallel=True, cache=True)
def scatter_rows(rows: npt.NDArray[Any], out: npt.NDArray[Any], rows_adjacent: bool) -> None:
    """The first K columns of rows (A * B, >= K) to out (A, B, K) of the same type, any strides. rows_adjacent: as above, of out."""
    tiles = (out.shape[1] + TILE - 1) // TILE
    for tile in prange(out.shape[0] * tiles):
        a, first = tile // tiles, tile % tiles * TILE
        part = out[a, first : first + TILE]
        source = rows[a * out.shape[1] + first : a * out.shape[1] + min(first + TILE, out.shape[1])]
        if rows_adjacent:
            square = np.empty((TILE, TILE), rows.dtype)
            for start in range(0, part.shape[1], TILE):
                corner, origin = part[:, start : start + TILE], source[:, start : start + TILE]
                for r in range(corner.shape[0]):
                    for k in range(corner.shape[1]):
                        square[k, r] = origin[r, k]
                for k in range(corner.shape[1]):
                    for r in range(corner.shape[0]):
                        corner[r, k] = square[k, r]
        else:
            for r in range(part.shape[0]):
                for k in range(part.shape[1]):
                    part[r, k] = source[r, k]
