"""mxsim.matmul against captures of real tensor cores, mmasim's golden answers and the exact oracle."""

from __future__ import annotations

import numpy as np
import pytest

import mxsim
from tests.mxsim.units import evidence


@pytest.mark.skipif(evidence.HARDWARE is None, reason="MXSIM_SHARED_DATA is not set: no hardware vectors")
@pytest.mark.parametrize(("gpu", "format", "out"), evidence.CONFIGURATIONS)
def test_hardware(gpu: str, format: str, out: str) -> None:
    assert evidence.hardware_mismatches(gpu, format, out) == (0, 5000)


def test_mmasim() -> None:
    keys = evidence.golden_keys()
    with np.load(evidence.GOLDEN) as golden:
        wrong = {key: n for key in keys if (n := evidence.golden_mismatches(key, golden)[0])}
    assert len(keys) == 268
    assert not wrong


@pytest.mark.parametrize("unit", mxsim.UNITS)
def test_exact_oracle(unit: str) -> None:
    pairs = [pair for pair in evidence.preset_pairs() if pair[0] == unit]
    step = max(len(pairs) // 12, 1)
    assert not {pair: n for pair in pairs[::step] if (n := evidence.oracle_mismatches(*pair, seed=1)[0])}


def test_threads_change_nothing() -> None:
    import numba

    x = np.random.default_rng(0).standard_normal((40, 96)).astype(np.float16)
    one = mxsim.matmul(x, x.T, unit="nvidia_volta")
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert np.array_equal(one, mxsim.matmul(x, x.T, unit="nvidia_volta"))


def test_refused_with_what_is_taken() -> None:
    x = np.ones((2, 2), np.float16)
    with pytest.raises(mxsim.MxsimError, match="bf16 x bf16 -> fp32"):
        mxsim.matmul(x, x, unit="riscv_bulknorm")
    with pytest.raises(mxsim.MxsimError, match=r"\.toml"):
        mxsim.matmul(x, x, unit="nvidia")
