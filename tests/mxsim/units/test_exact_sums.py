"""One rounding of an exact sum, however far apart its terms lie."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import mxsim
from tests.oracles.units.numbers import decode, encode


@pytest.mark.parametrize("K", [3, 100])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_least_of_all_bits_decides_a_tie(sign: int, K: int) -> None:
    """2^k + 2^(k-24) lies halfway between two float32: what is far below it says which."""
    k, below = (x.reshape(-1) for x in np.meshgrid(np.arange(-40, 128), np.arange(26, 230)))
    within = k - below >= -133
    k, below = k[within], below[within]
    a = np.zeros((k.size, K))
    a[:, 0], a[:, K // 2], a[:, -1] = np.ldexp(1.0, k), np.ldexp(1.0, k - 24), np.ldexp(1.0, k - below)
    a *= sign
    ones = np.ones((K, 2))
    ones[-1, 1] = -1
    d = mxsim.matmul(a.astype(ml_dtypes.bfloat16), ones.astype(ml_dtypes.bfloat16), unit="mx_exact")
    np.testing.assert_array_equal(d[:, 0], sign * (np.ldexp(1.0, k) + np.ldexp(1.0, k - 23)))
    np.testing.assert_array_equal(d[:, 1], sign * np.ldexp(1.0, k))


@pytest.mark.parametrize("K", [5, 40, 64, 65, 200])
@pytest.mark.parametrize("spread", [3, 20, 60, 120])
def test_sums_by_fractions(spread: int, K: int) -> None:
    rng = np.random.default_rng([spread, K])
    a, b = (
        np.ldexp(rng.integers(-127, 128, (3, K)).astype(np.float64), rng.integers(-spread, spread, (3, K)) // 2).astype(ml_dtypes.bfloat16)
        for _ in range(2)
    )
    a[1, K // 2 :], b[1, K // 2 :] = -a[1, : K - K // 2], b[1, : K - K // 2]  # cancels, but for its ends
    c = np.ldexp(rng.standard_normal((3, 3)), rng.integers(-spread, spread, (3, 3))).astype(np.float32)
    got = mxsim.matmul(a, b.T, unit="mx_exact", c=c).view(np.uint32)
    for i, j in np.ndindex(3, 3):
        total = sum(
            (
                decode("bf16", int(x)).value * decode("bf16", int(y)).value
                for x, y in zip(a.view(np.uint16)[i], b.view(np.uint16)[j], strict=True)
            ),
            Fraction(float(c[i, j])),
        )
        assert got[i, j] == encode(total, "fp32")
