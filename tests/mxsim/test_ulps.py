"""ULP distances against numpy's nextafter, and what NaN, Inf and the zeros are given."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mxsim.errors import MxsimError
from mxsim.ulps import NO_DISTANCE, error_statistics, ulp_distance

DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_along_the_line(dtype: Any) -> None:
    """From far below zero to far above, three steps at a time, across both zeros."""
    tiny = np.nextafter(dtype(0), dtype(1), dtype=dtype) if dtype is not ml_dtypes.bfloat16 else np.uint16(1).view(dtype)
    line = (np.arange(-30, 31, 3).astype(np.float64) * float(tiny)).astype(dtype)
    distance = ulp_distance(line[1:], line[:-1])
    assert distance.dtype == np.int64
    assert distance.tolist() == [3] * 20


def test_neighbours_of_float32() -> None:
    x = np.random.default_rng(0).integers(0, 1 << 32, 10_000, dtype=np.uint32).view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) < 1e38)]
    up = np.nextafter(np.nextafter(x, np.float32(np.inf)), np.float32(np.inf))
    assert set(ulp_distance(x, up).tolist()) == {2}


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_on_the_line(dtype: Any) -> None:
    nan, inf = np.nan, np.inf
    got = np.array([nan, nan, 1, inf, inf, -inf, 1, inf, 0, -0.0], dtype)
    reference = np.array([nan, 1, nan, inf, -inf, inf, inf, 1, -0.0, -0.0], dtype)
    assert ulp_distance(got, reference).tolist() == [0, NO_DISTANCE, NO_DISTANCE, 0, *[NO_DISTANCE] * 4, 0, 0]
    assert ulp_distance(np.zeros((0, 3), dtype), np.zeros((0, 3), dtype)).shape == (0, 3)


def test_statistics() -> None:
    reference = np.array([[1, 2, np.nan, np.inf], [0, -4, 8, 1]], np.float32)
    got = reference.copy()
    got[0, 0] = 1 + 2 * 2.0**-23
    got[1, 0] = -0.0
    got[1, 3] = np.inf
    found = error_statistics(got.T, reference.T)
    assert (found.elements, found.differing, found.no_distance) == (8, 3, 1)
    assert (found.max_ulps, found.mean_ulps, found.p99_ulps) == (2, 2 / 7, 2)
    assert found.max_relative == 2.0**-22
    assert found.relative_norm == 2.0**-22 / np.sqrt(1 + 4 + 16 + 64)
    assert found.as_json()["share_differing"] == 3 / 8
    assert error_statistics(reference, reference).relative_norm == 0
    assert error_statistics(reference[:0], reference[:0]).max_ulps is None


@pytest.mark.parametrize(
    ("got", "reference"),
    [
        (np.ones(3), np.ones(3)),
        (np.ones(3, np.float32), np.ones(3, np.float16)),
        (np.ones(3, np.float32), np.ones(4, np.float32)),
        ([1.0], [1.0]),
    ],
)
def test_refused(got: Any, reference: Any) -> None:
    with pytest.raises(MxsimError, match="ULPs"):
        ulp_distance(got, reference)
