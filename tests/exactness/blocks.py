"""Rows of awkward floats: what a converter meets at its edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt

ROW_LENGTH = 80  # two and a half blocks of 32, five of 16
DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def awkward_rows(dtype_name: str, seed: int = 5) -> npt.NDArray[np.generic]:
    """(rows, 80) of the dtype: ordinary, tiny, huge, tied, zero, signed zero, Inf and NaN."""
    dtype = DTYPES[dtype_name]
    info = ml_dtypes.finfo(dtype)
    low, high = int(np.frexp(np.float64(info.smallest_subnormal))[1]), int(np.frexp(np.float64(info.max))[1])
    rng = np.random.default_rng(seed)

    def normal() -> npt.NDArray[np.float64]:
        return rng.standard_normal(ROW_LENGTH)

    def powers(lowest: int, highest: int) -> npt.NDArray[np.float64]:
        return np.ldexp(1.0, rng.integers(lowest, highest, ROW_LENGTH))

    signs = rng.choice([-1.0, 1.0], ROW_LENGTH)
    blocks = np.repeat(np.ldexp(1.0, rng.integers(low, high - 2, ROW_LENGTH // 16)), 16)
    nan_row, inf_row, zero_spots = normal(), normal(), normal()
    nan_row[37], inf_row[[3, 79]], zero_spots[::3] = np.nan, [np.inf, -np.inf], 0.0
    rows = [
        normal(),
        normal() * 0.02,
        normal() * np.ldexp(1.0, high - 3),
        normal() * np.ldexp(1.0, low + 3),
        normal() * blocks,
        normal() * powers(low, high - 2),
        normal() * powers(-16, 0),
        signs * powers(low, high),
        signs * rng.integers(0, 33, ROW_LENGTH) / 4,
        signs * rng.integers(0, 257, ROW_LENGTH) / 128,
        signs * np.ldexp(1.0, low - 1) * rng.integers(0, 4, ROW_LENGTH),
        signs * float(info.max),
        signs * 0.0,
        zero_spots * signs,
        nan_row,
        inf_row,
    ]
    with np.errstate(over="ignore"):
        return np.array(rows).astype(dtype)


def random_patterns(rows: int, seed: int = 6) -> npt.NDArray[np.float32]:
    """Uniform float32 bit patterns: enormous spreads of magnitude inside one block, now and then NaN."""
    return np.random.default_rng(seed).integers(0, 2**32, (rows, ROW_LENGTH), dtype=np.uint32).view(np.float32)
