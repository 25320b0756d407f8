"""Single elements: casts between float32 and the codes of an element format, without a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import FLOATS
from mxsim.errors import MxsimError, unknown_name
from mxsim.formats import ElementFormat, element_format


def decode(codes: npt.NDArray[np.uint8], format: str | ElementFormat) -> npt.NDArray[np.float32]:
    """The numbers that codes stand for, exactly.

    Args: codes: uint8, any shape. format: a name of mxsim.ELEMENTS, the scale format e8m0 among them.
    Returns: float32, the same shape. E8M0 code 0 is 2^-127, a float32 subnormal.
    """
    element = element_format(format)
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
        got = codes.dtype if isinstance(codes, np.ndarray) else type(codes).__name__
        raise MxsimError(f"codes must be a uint8 array, got {got}")
    if codes.size and int(codes.max()) >= element.codes:
        raise MxsimError(f"codes holds {int(codes.max())}, but {element.name} has codes 0 to {element.codes - 1}")
    return element.values()[codes]


def encode(
    x: npt.NDArray[Any], format: str | ElementFormat, rounding: str = "nearest_even", seed: int | None = None
) -> npt.NDArray[np.uint8]:
    """The codes of the nearest elements, saturating.

    Args:
        x: float32, float16 or bfloat16, any shape and strides.
        format: a signed element format: e5m2, e4m3, e3m2, e2m3, e2m1 or int8 (6 fraction bits, clipped to +-127 steps).
        rounding: nearest_even | nearest_away | nearest_zero (ties toward zero) | toward_zero | stochastic (needs a seed).
    Returns:
        uint8, x.shape. What is too large, and Inf, becomes +-max (OFP8's saturating mode); NaN becomes the format's NaN with its sign, or
        code 0 in a format without one. The sign of zero is kept, but for int8, which has one zero.
    """
    from mxsim.conversion import checked_seed
    from mxsim.kernels.conversion import encode_elements
    from mxsim.plan import ROUNDINGS, element_grid

    element = element_format(format)
    if not element.signed:
        raise MxsimError(f"{element.name} is a scale format: its codes follow from a scale rule, see mxsim.quantize")
    if rounding not in ROUNDINGS:
        raise unknown_name("rounding", rounding, ROUNDINGS)
    if not isinstance(x, np.ndarray) or x.dtype not in FLOATS:
        got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise MxsimError(f"x must be an array of float32, float16 or bfloat16, got {got}")
    wide = x.astype(np.float32).reshape(-1)
    codes = np.empty(x.shape, np.uint8)
    grid = element_grid(element)
    encode_elements(wide, codes.reshape(-1), grid, ROUNDINGS[rounding], checked_seed(seed, rounding == "stochastic"))
    return codes
