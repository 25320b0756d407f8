"""Fake quantisation of tensors has the bits of mxsim.fake_quantize, in every format, shape and dtype."""

from __future__ import annotations

import os
import subprocess
import sys

import ml_dtypes
import numba
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mxsim  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.ladder import Ladder  # noqa: E402
from dmx.quantisers import as_numpy, checked_formats, fake_quantize, fake_quantize_elementwise  # noqa: E402
from mxsim.errors import UnknownNameError  # noqa: E402
from mxsim.formats import FORMATS  # noqa: E402

E8M0_FORMATS = [name for name, format in FORMATS.items() if not format.tensor_scale]
SHAPES = [(1,), (32,), (3, 31), (2, 3, 65), (5, 172)]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def values(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Of many magnitudes, with zeros, subnormals and blocks of nothing but zeros."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * torch.exp2(torch.randint(-20, 14, shape, generator=generator).float())
    x = torch.where(torch.rand(shape, generator=generator) < 0.1, torch.zeros(()), x)
    x.reshape(-1)[-32:] *= 1e-39 if dtype == torch.float32 else 0.0
    return x.to(dtype)


def bits(x: torch.Tensor) -> np.ndarray:
    array = as_numpy(x)
    return array.view(np.uint32 if array.itemsize == 4 else np.uint16)


def expected(x: torch.Tensor, format: str) -> torch.Tensor:
    array = x.float().numpy() if x.dtype == torch.float32 else as_numpy(x)
    return torch.from_numpy(mxsim.fake_quantize(array, format)).to(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_bits_are_those_of_mxsim(format: str, shape: tuple[int, ...], dtype: str) -> None:
    x = values(shape, DTYPES[dtype])
    found = fake_quantize(x, format)
    assert found.dtype == x.dtype
    assert found.shape == x.shape
    np.testing.assert_array_equal(bits(found), bits(expected(x, format)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("format", E8M0_FORMATS)
def test_torch_operations_alone_give_the_same_bits(format: str, shape: tuple[int, ...], dtype: str) -> None:
    for seed in range(4):
        x = values(shape, DTYPES[dtype], seed)
        found = fake_quantize_elementwise(x, FORMATS[format])
        np.testing.assert_array_equal(bits(found), bits(expected(x, format)))


@pytest.mark.parametrize("format", E8M0_FORMATS)
def test_nan_and_infinity_make_their_block_nan(format: str) -> None:
    x = torch.ones(3, 64)
    x[0, 3], x[1, 40], x[2, 0] = float("nan"), float("inf"), float("-inf")
    found = fake_quantize_elementwise(x, FORMATS[format])
    np.testing.assert_array_equal(torch.isnan(found), np.isnan(mxsim.fake_quantize(x.numpy(), format)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("format", FORMATS)
def test_cuda_gives_the_same_bits(format: str) -> None:
    for shape in SHAPES:
        x = values(shape, torch.float32)
        np.testing.assert_array_equal(bits(fake_quantize(x.cuda(), format).cpu()), bits(fake_quantize(x, format)))


def test_torch_keeps_its_number_of_threads() -> None:
    """In a process of its own: numba starts its threads once."""
    code = "; ".join(
        [
            "import torch",
            "from dmx.quantisers import fake_quantize",
            "torch.set_num_threads(1)",
            "fake_quantize(torch.randn(1024, 1024), 'mxfp4_e2m1')",
            "print(torch.get_num_threads())",
        ]
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("before", [1, numba.config.NUMBA_NUM_THREADS])
def test_numba_keeps_its_number_of_threads(before: int) -> None:
    """Of small work, of work that is shared, of mixtures, and of work that fails."""
    found = numba.get_num_threads()
    numba.set_num_threads(before)
    try:
        for x in (torch.randn(4, 64), torch.randn(1024, 1024)):
            fake_quantize(x, "mxfp4_e2m1")
            Ladder([x, x]).mixed([0.5])
            with pytest.raises(UnknownNameError):
                fake_quantize(x, "mxfp4_e2m1", "no policy")
            assert numba.get_num_threads() == before
    finally:
        numba.set_num_threads(found)


def test_the_wide_type_changes_nothing() -> None:
    x = torch.randn(4)
    assert fake_quantize(x, "bf16") is x


def test_bfloat16_is_seen_without_a_copy() -> None:
    x = torch.ones(4, dtype=torch.bfloat16)
    array = as_numpy(x)
    assert array.dtype == ml_dtypes.bfloat16
    x[0] = 2
    assert float(array[0]) == 2


def test_bad_input_is_refused() -> None:
    with pytest.raises(DmxError, match="cannot be quantised"):
        as_numpy(torch.ones(2, dtype=torch.float64))
    with pytest.raises(UnknownNameError, match="mxfp4_e2m1"):
        checked_formats(("mxfp4",))
    with pytest.raises(DmxError, match="each named once"):
        checked_formats(("mxfp4_e2m1", "mxfp4_e2m1"))
    with pytest.raises(DmxError, match="at least one"):
        checked_formats(())
