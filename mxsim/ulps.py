"""How far apart two arrays of floats are: in units in the last place, relatively, and in bits.

The floats of a format lie on a line, each one step from the next; a distance in ULPs is the number of steps. Both zeros are
one point of that line. NaN and Inf are not on it: two NaNs, or two equal infinities, agree (distance 0); a NaN or an infinity
beside anything else has no distance, is written NO_DISTANCE and counted on its own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError

NO_DISTANCE = np.iinfo(np.int64).max  #: the "distance" between a NaN or an infinity and anything else
_BITS: dict[np.dtype[Any], tuple[Any, int]] = {  #: float -> (its bits as integers, the significand's bits)
    np.dtype(np.float32): (np.int32, 23),
    np.dtype(np.float16): (np.int16, 10),
    np.dtype(ml_dtypes.bfloat16): (np.int16, 7),
}


def ulp_distance(got: npt.NDArray[Any], reference: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Steps from one float to the other, element by element.

    Args: got, reference: the same dtype (float32, float16 or bfloat16) and shape, any strides.
    Returns: int64, the same shape, >= 0. +0 and -0 are 0 apart, as are NaN and NaN whatever their payloads; NO_DISTANCE where only one
        is NaN, or one is infinite and the other is not the same infinity.
    """
    _checked(got, reference)
    dtype, significand = _BITS[got.dtype]
    a, b = (np.ascontiguousarray(x).view(dtype).astype(np.int64).reshape(got.shape) for x in (got, reference))
    width = 8 * got.dtype.itemsize
    magnitude = (1 << width - 1) - 1
    inf = magnitude >> significand << significand
    ma, mb = a & magnitude, b & magnitude
    distance = np.abs(np.where(a < 0, -ma, ma) - np.where(b < 0, -mb, mb))
    both_nan = (ma > inf) & (mb > inf)
    off_the_line = ((ma >= inf) | (mb >= inf)) & (a != b) & ~both_nan
    return np.where(both_nan, 0, np.where(off_the_line, NO_DISTANCE, distance))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatistics:
    """What an array lacks to be its reference. Means are over the elements that have a distance; None where there is none."""

    elements: int
    differing: int  #: elements whose bits differ; two NaNs with other payloads do not count, +0 beside -0 does
    no_distance: int  #: elements where a NaN or an infinity stands beside something else
    max_ulps: int | None
    mean_ulps: float | None
    p99_ulps: int | None  #: 99 of 100 elements are no further off
    max_relative: float | None  #: largest |got - reference| / |reference| where the reference is not zero
    mean_relative: float | None
    relative_norm: float | None  #: ||got - reference|| / ||reference||, Frobenius, over finite pairs

    @property
    def share_differing(self) -> float:
        return self.differing / self.elements if self.elements else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"share_differing": self.share_differing}


def error_statistics(got: npt.NDArray[Any], reference: npt.NDArray[Any]) -> ErrorStatistics:
    """Compare an array with its reference; arguments as in ulp_distance."""
    distance = ulp_distance(got, reference)
    counted = distance != NO_DISTANCE
    bits = _BITS[got.dtype][0]
    a, b = (np.ascontiguousarray(x).reshape(x.shape) for x in (got, reference))
    differing = (a.view(bits) != b.view(bits)).reshape(got.shape)
    x, y = a.astype(np.float64), b.astype(np.float64)
    differing &= ~(np.isnan(x) & np.isnan(y))
    finite = np.isfinite(x) & np.isfinite(y)
    error = np.abs(np.subtract(x, y, where=finite, out=np.zeros_like(x)))
    relative = error[finite & (y != 0)] / np.abs(y[finite & (y != 0)])
    norm = math.sqrt(float(np.sum(np.square(y[finite]))))
    steps = distance[counted]
    return ErrorStatistics(
        elements=got.size,
        differing=int(np.count_nonzero(differing)),
        no_distance=int(got.size - np.count_nonzero(counted)),
        max_ulps=int(steps.max()) if steps.size else None,
        mean_ulps=float(steps.mean(dtype=np.float64)) if steps.size else None,
        p99_ulps=int(np.quantile(steps, 0.99, method="higher")) if steps.size else None,
        max_relative=float(relative.max()) if relative.size else None,
        mean_relative=float(relative.mean()) if relative.size else None,
        relative_norm=math.sqrt(float(np.sum(np.square(error[finite])))) / norm if norm > 0 else None,
    )


def _checked(got: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    for name, x in (("got", got), ("reference", reference)):
        if not isinstance(x, np.ndarray) or x.dtype not in _BITS:
            kind = f"dtype {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
            raise MxsimError(f"{name} is {kind}: ULPs are counted in arrays of float32, float16 or bfloat16; cast it first")
    if got.dtype != reference.dtype or got.shape != reference.shape:
        described = f"got is {got.dtype} {got.shape} and reference {reference.dtype} {reference.shape}"
        raise MxsimError(f"{described}: ULPs need one dtype and one shape; cast both")
