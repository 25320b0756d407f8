"""The two scales of NVFP4: a float32 for the tensor, an E4M3 for every 16 elements; as each producer computes them in float32.

Every division and product below is one float32 operation, rounded to nearest even; their order is the producer's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import DTYPES
from mxsim.formats import ELEMENTS

Float32 = npt.NDArray[np.float32]

E2M1_MAX = np.float32(ELEMENTS["e2m1"].max)
E4M3_MAX = np.float32(ELEMENTS["e4m3"].max)
RANGE = np.float32(E2M1_MAX * E4M3_MAX)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoLevelScale:
    """How a producer finds and applies both scales. The functions take and give float32; dtype is that of the tensor quantised."""

    tensor: Callable[[np.float32, str], np.float32]  #: the number stored for the tensor, from its largest magnitude
    divides: bool = False  #: whether that number divides the block scales, rather than multiplies them
    finite_only: bool = False  #: whether Inf and NaN are left out of the tensor's largest magnitude
    block: Callable[[Float32, np.float32, str], Float32]  #: from the blocks' largest magnitudes, before the clamp and the cast to E4M3
    lowest: float = 0.0  #: clamp of that, the upper end being 448
    zero: float | None = None  #: what stands in for a block scale of zero
    zero_after_cast: bool = False  #: whether zero is what the cast to E4M3 gives, or what block gives
    factor: Callable[[Float32, np.float32], Float32]  #: what elements are divided by, from decoded E4M3 scales; 0 makes Inf, and NaN of 0
    multiply: bool = False  #: or multiplied
    nan_code: int = 0x7F  #: scale code of a block with NaN
    inf_code: int | None = None  #: of one with Inf and no NaN; None: as the arithmetic has it
    source: str


def rounded(x: Any, dtype: str) -> Float32:
    """float32 numbers rounded to another dtype and widened again."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float32).astype(DTYPES[dtype]).astype(np.float32)


def amax_over_range(amax: np.float32, dtype: str) -> np.float32:
    """amax / (448 * 6)."""
    return np.float32(amax / RANGE)


def amax_over_range_or_one(amax: np.float32, dtype: str) -> np.float32:
    """The same, 1 for a tensor of zeros and where it underflows."""
    scale = amax_over_range(amax, dtype)
    return scale if scale > 0 else np.float32(1)


def range_times_reciprocal(amax: np.float32, dtype: str) -> np.float32:
    """(1 / amax) * 2688 in the tensor's dtype; 1 where that is not a number, as for zeros and whatever comes near them."""
    scale = rounded(rounded(1 / np.maximum(amax, np.float32(2.0**-126)), dtype) * RANGE, dtype)
    return np.float32(scale) if np.isfinite(scale) else np.float32(1)


def block_over_tensor(amax: Float32, tensor: np.float32, dtype: str) -> Float32:
    """(amax / 6) / tensor."""
    return amax / E2M1_MAX / tensor


def block_over_six_tensor(amax: Float32, tensor: np.float32, dtype: str) -> Float32:
    """amax / (6 * tensor)."""
    return amax / np.float32(E2M1_MAX * tensor)


def tensor_times_block(amax: Float32, tensor: np.float32, dtype: str) -> Float32:
    """tensor * (amax / 6), the quotient in the tensor's dtype."""
    return tensor * rounded(amax / E2M1_MAX, dtype)


def product(scale: Float32, tensor: np.float32) -> Float32:
    """scale * tensor."""
    return scale * tensor


def product_or_inf(scale: Float32, tensor: np.float32) -> Float32:
    """The same, Inf where that is 0, so that elements become zeros."""
    both = product(scale, tensor)
    return np.where(both == 0, np.float32(np.inf), both)


def quotient(scale: Float32, tensor: np.float32) -> Float32:
    """scale / tensor."""
    return scale / tensor


def reciprocal(scale: Float32, tensor: np.float32) -> Float32:
    """(1 / tensor) / scale, to multiply by."""
    return np.float32(1) / tensor / scale
