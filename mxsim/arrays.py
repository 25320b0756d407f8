"""What the faces accept as an array, and the walk over it in pieces that a kernel can take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": BFLOAT16}
FLOATS = tuple(DTYPES.values())
NAMES = {dtype: name for name, dtype in DTYPES.items()}
STORED = {DTYPES["float32"]: np.float32, DTYPES["float16"]: np.int16, BFLOAT16: np.uint16}  #: as the kernels see them
VECTOR = 32  #: elements, of which the kernels like a block to hold a multiple
LEAST_PIECE, MOST_PIECE = 1 << 18, 1 << 22  #: elements converted at a time where a copy is needed


def checked_floats(x: object, name: str = "x") -> npt.NDArray[np.generic]:
    """`x` as it is, if it is an array that can be quantised."""
    if not isinstance(x, np.ndarray):
        raise MxsimError(f"{name} is a {type(x).__name__}: pass a numpy array of float32, float16 or bfloat16")
    if isinstance(x, np.ma.MaskedArray):
        raise MxsimError(f"{name} is a masked array, but blocks have no mask: pass {name}.filled(0), say")
    if x.dtype not in FLOATS:
        remedy = "cast it with .astype(numpy.float32)" if x.dtype.kind in "fiub" else "convert it to a float array first"
        raise MxsimError(f"{name} has dtype {x.dtype}, but only float32, float16 and bfloat16 can be quantised: {remedy}")
    if x.ndim == 0:
        raise MxsimError(f"{name} is 0-dimensional, but blocks lie along an axis: pass {name}.reshape(1)")
    return x


def checked_axis(axis: object, ndim: int) -> int:
    """`axis` counted from the front."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise MxsimError(f"axis is {axis!r}: pass an integer from {-ndim} to {ndim - 1}")
    if not -ndim <= axis < ndim:
        raise MxsimError(f"axis {axis} does not exist in an array of {ndim} dimension{'s' * (ndim != 1)}: pass {-ndim} to {ndim - 1}")
    return int(axis) % ndim


def axis_last(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """A view whose last axis is this one, of 0 to ndim - 1."""
    return array if axis == array.ndim - 1 else np.moveaxis(array, axis, -1)


def checked_out(out: object, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """`out`, or a new array where it is None."""
    if out is None:
        return np.empty(shape, np.float32)
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise MxsimError(f"out is {got}, but must be a float32 array of shape {shape}")
    if not out.flags.writeable:
        raise MxsimError("out is read-only: pass a writeable array, or out=None for a new one")
    return out


def pieces(shape: tuple[int, ...], limit: int | None = None) -> Iterator[tuple[int | slice, ...]]:
    """Indices that cover an array's leading axes.

    Each selects at most `limit` elements where a single row of the last axis allows: a sixteenth of the array, so that a float32 copy of a
    piece stays smaller than even one byte an element of the whole.
    """
    if limit is None:
        limit = min(max(math.prod(shape) // 16, LEAST_PIECE), MOST_PIECE)
    if len(shape) == 1:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner <= limit:
        step = limit // max(inner, 1)
        for start in range(0, shape[0], step):
            yield (slice(start, start + step),)
        return
    for i in range(shape[0]):
        for rest in pieces(shape[1:], limit):
            yield (i, *rest)


def block_in_memory(length: int, block: int) -> int:
    """The elements that a block takes in memory. One that covers a row of `length` with room to spare is filled up to whole vectors alone:
    the zeros past a row change nothing."""
    return min(block, -(-max(length, 1) // VECTOR) * VECTOR)


def gathered(x: npt.NDArray[Any], block: int) -> Iterator[tuple[tuple[int | slice, ...], npt.NDArray[np.float32]]]:
    """The rows along the last axis as contiguous float32, piece by piece, each filled up with zeros to whole blocks.

    Yields: the index of a piece in x, and its rows (n, ceil(K / block) * block): a buffer that the next piece overwrites.
    """
    from mxsim.kernels.gather import gather_rows

    stored = x.view(STORED[x.dtype])
    width = -(-x.shape[-1] // block) * block
    buffer: npt.NDArray[np.float32] | None = None
    for index in pieces(x.shape):
        part = _three_axes(stored[index])
        count = part.shape[0] * part.shape[1]
        if buffer is None:
            buffer = np.empty((count, width), np.float32)
        gather_rows(part, buffer[:count], _rows_adjacent(part))
        yield index, buffer[:count]


def scatter(rows: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write rows (n, >= K) to an array (..., K) of n rows and the same dtype, any strides."""
    from mxsim.kernels.gather import scatter_rows

    target = _three_axes(out)
    if np.may_share_memory(target, out):
        scatter_rows(rows, target, _rows_adjacent(target))
    else:  # more axes than a view can merge
        out[...] = rows[:, : out.shape[-1]].reshape(out.shape)


def padded_rows(part: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    """A contiguous copy (n, ceil(K / block) * block) of an array's rows along its last axis, filled up with zeros."""
    *rows, length = part.shape
    buffer = (np.zeros if length % block else np.empty)((*rows, -(-length // block) * block), part.dtype)
    buffer[..., :length] = part
    return buffer.reshape(-1, buffer.shape[-1])


def _three_axes(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A piece as (A, B, K); a view wherever strides allow."""
    if part.ndim < 3:
        return part.reshape((1,) * (3 - part.ndim) + part.shape)
    return part.reshape(part.shape[0], -1, part.shape[-1])


def _rows_adjacent(part: npt.NDArray[Any]) -> bool:
    return abs(part.strides[1]) < abs(part.strides[2])
