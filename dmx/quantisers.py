"""Fake quantisation of torch tensors: the bits of mxsim.fake_quantize on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import ml_dtypes
import numba
import numpy as np
import numpy.typing as npt
import torch

import mxsim
from dmx.errors import DmxError
from dmx.kernels.threads import exchange_threads
from mxsim.formats import FORMATS, BlockFormat
from mxsim.storage_formats import WIDE

#: What can be quantised, and what numpy calls it.
DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
}
#: Elements from which waking a second thread pays.
SHARED_WORK = 1 << 18


def checked_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, each of a block format (or the wide type). Raises: MxsimError for an unknown one, DmxError for none or twice the same."""
    for name in names:
        if name != WIDE:
            FORMATS[name]
    if not names or len(set(names)) != len(names):
        raise DmxError(f"formats {names} must be at least one, each named once, such as mxfp4_e2m1,mxfp8_e4m3")
    return names


def fake_quantize(x: torch.Tensor, format: str, policy: str = "ocp") -> torch.Tensor:
    """Quantise and dequantise along the last axis.

    Args: x: float32, float16 or bfloat16, any device; no gradient flows.  format: a block format, or "bf16": x as it is.
    Returns: x's shape, dtype and device: the bits of mxsim.fake_quantize, rounded to x's dtype where that is narrower than the format
        needs (float16 at its ends; bfloat16 holds every MX value of its own range exactly).
    """
    if format == WIDE:
        return x
    if x.is_cuda and policy == "ocp" and not FORMATS[format].tensor_scale:
        return fake_quantize_elementwise(x, FORMATS[format])
    with shared_threads(x.numel()):
        values = mxsim.fake_quantize(as_numpy(x), format, policy=policy)
    return torch.from_numpy(values).to(device=x.device, dtype=x.dtype)


@contextmanager
def shared_threads(elements: int) -> Iterator[None]:
    """Kernels called meanwhile use as many threads as torch does, or one where there is little to do."""
    most = _started_threads()
    before = exchange_threads(min(torch.get_num_threads(), most) if elements >= SHARED_WORK else 1)
    try:
        yield
    finally:
        exchange_threads(before)


@cache
def _started_threads() -> int:
    """How many numba has. When they first start they take OpenMP's number for all of the process: torch gets its own back."""
    threads = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(threads)
    return int(numba.config.NUMBA_NUM_THREADS)


def as_numpy(x: torch.Tensor) -> npt.NDArray[Any]:
    """The tensor as a numpy array, without a copy where it lies on the CPU; bfloat16 as ml_dtypes'."""
    if x.dtype not in DTYPES:
        raise DmxError(f"a tensor of {x.dtype} cannot be quantised: pass float32, float16 or bfloat16")
    plain = x.detach().cpu()
    if plain.dtype == torch.bfloat16:
        return cast("npt.NDArray[Any]", plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return plain.numpy()


def fake_quantize_elementwise(x: torch.Tensor, format: BlockFormat) -> torch.Tensor:
    """Policy ocp (floor, nearest even) in torch operations alone, for devices that mxsim's kernels do not reach.

    Args: x: (..., K), any device.  format: one with E8M0 scales.
    Returns: x's shape and dtype. Exact: bit for bit mxsim.fake_quantize's.
    """
    element, k = format.element, x.shape[-1]
    values = x.detach().float()
    padding = -k % format.block_size
    if padding:
        values = torch.nn.functional.pad(values, (0, padding))
    blocks = values.unflatten(-1, (-1, format.block_size))
    amax = blocks.abs().amax(-1, keepdim=True)
    is_special = ~torch.isfinite(amax)
    exponent = (torch.frexp(torch.where(is_special, torch.ones_like(amax), amax)).exponent - 1 - element.emax).clamp(-127, 127)
    exponent = torch.where(amax == 0, torch.full_like(exponent, -127), exponent)
    # In float64 nothing here over- or underflows, and every product and quotient by a power of two is exact.
    scaled = torch.ldexp(blocks.double(), -exponent)
    if element.is_fixed_point:
        quantum = torch.full_like(scaled, 2.0**-element.mbits)
        largest = (2 ** (element.bits - 1) - 1) * 2.0**-element.mbits
    else:
        binade = torch.frexp(scaled).exponent - 1
        binade = torch.where(scaled == 0, torch.full_like(binade, element.emin), binade).clamp_min(element.emin)
        quantum = torch.ldexp(torch.ones_like(scaled), binade - element.mbits)
        largest = element.max
    rounded = (torch.round(scaled / quantum) * quantum).clamp(-largest, largest)
    rounded = rounded + 0.0 if element.is_fixed_point else torch.copysign(rounded.abs(), scaled)  # two's complement has one zero
    result = torch.ldexp(rounded, exponent).float()
    result = torch.where(is_special, torch.full_like(result, float("nan")), result).flatten(-2)
    return result[..., :k].to(x.dtype)
