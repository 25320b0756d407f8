"""mxsim.matmul against captures of real tensor cores, mmasim's golden answers and the exact oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


@pytest.mark.parametrize(
    ("unit", "format", "change"),
    [
        ("nvidia_volta", "fp16", {"F": 22}),
        ("nvidia_volta", "fp16", {"F": 24}),
        ("nvidia_turing", "fp16", {"chunk": 4}),
        ("nvidia_ampere", "bf16", {"F": 25}),
        ("nvidia_hopper_wgmma", "e4m3", {"F": 14}),
        ("nvidia_hopper_wgmma", "e4m3", {"step": "rne_e8m13"}),
        ("nvidia_blackwell", "mxfp8_e4m3", {"F": 24}),
        ("nvidia_blackwell", "mxfp4_e2m1", {"F": 34}),
        ("nvidia_blackwell", "nvfp4", {"step": "rz_e8m22"}),
        ("amd_cdna3", "fp16", {"F": 25}),
    ],
)
def test_answers_tell_one_parameter_changed_by_one(unit: str, format: str, change: dict[str, Any]) -> None:
    described = mxsim.UNITS[unit]
    described = replace(described, paths=(replace(described.path_for(format, format), **change),))
    with np.load(evidence.GOLDEN) as golden:
        keys = [key for key in evidence.golden_keys() if key.startswith(f"{unit}/{format}_{format}/fp32/")]
        assert sum(evidence.golden_mismatches(key, golden, described)[0] for key in keys) > 0


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
