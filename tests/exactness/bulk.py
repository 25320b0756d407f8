"""A million elements a format against the exact oracle's rounding boundaries, found by bisection and looked up in float64.

Scaling by a power of two is exact in float64 and leaves 24 significant bits, so the boundaries between float32 patterns decide
every element. Arrays this large take the kernels' chunked and threaded paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import mxsim
from tests.exactness.comparison import Comparison, compare
from tests.exactness.elements import expected_magnitudes, with_sign
from tests.oracles import conversion, numbers

REFERENCE = "exact boundaries"
SHAPE = (1100, 960)
BLOCK = 32
CHOICES = (
    *((rule, "nearest_even") for rule in conversion.SCALE_RULES),
    ("ceil", "toward_zero"),
    ("rceil", "nearest_away"),
)


def magnitudes_of_all_sizes() -> npt.NDArray[np.float32]:
    """Rows of many sizes, down to subnormals and up to the largest; blocks inside a row differ too."""
    rng = np.random.default_rng(31)
    exponents = np.linspace(-150, 125, SHAPE[0]).astype(int)[:, None] + rng.integers(-3, 4, (1, SHAPE[1] // BLOCK)).repeat(BLOCK, axis=1)
    return np.ldexp(rng.standard_normal(SHAPE).clip(-3.9, 3.9), exponents.clip(-150, 126)).astype(np.float32)


def exponents_of(amax: npt.NDArray[np.float64], element_name: str, scale_rule: str) -> npt.NDArray[np.int64]:
    """The scale exponents of blocks, clamped; -127 for zeros."""
    element = numbers.ELEMENTS[element_name]
    significand, exponent = np.frexp(amax)
    significand, exponent = 2 * significand, exponent.astype(np.int64) - 1
    bump = {
        "floor": np.zeros(amax.shape, bool),
        "ceil": significand > 1,
        "rceil": significand > float(element.max) / 2.0**element.emax,
        "even": significand >= 2 - 2.0 ** -(element.mbits + 1),
    }[scale_rule]
    return np.where(amax == 0, -127, (exponent - element.emax + bump).clip(-127, 127))


def comparisons(format_name: str) -> Iterator[Comparison]:
    """Codes, scales and values under pairs of scale rule and rounding."""
    element, _ = conversion.BLOCK_FORMATS[format_name]
    values = magnitudes_of_all_sizes()
    magnitudes = np.abs(values.astype(np.float64)).reshape(SHAPE[0], -1, BLOCK)
    for scale_rule, rounding in CHOICES:
        exponent = exponents_of(magnitudes.max(axis=-1), element, scale_rule)
        codes = expected_magnitudes(np.ldexp(magnitudes, -exponent[..., None]), element, rounding)
        table = np.array([float(numbers.decode(code, element).magnitude) for code in range(int(codes.max()) + 1)])
        with np.errstate(over="ignore"):
            decoded = np.ldexp(table[codes], exponent[..., None]).astype(np.float32).reshape(SHAPE)
        decoded = np.copysign(decoded, values) if element != "int8" else np.where(values < 0, 0 - decoded, decoded)
        want_codes = with_sign(codes.reshape(SHAPE), np.signbit(values), element)

        how: dict[str, Any] = {"scale_rule": scale_rule, "rounding": rounding}
        quantized, at_once = mxsim.quantize(values, format_name, **how), mxsim.fake_quantize(values, format_name, **how)
        what = f"{format_name} {scale_rule} {rounding}"
        yield compare(f"{what} scales", REFERENCE, quantized.scales, (exponent + 127).astype(np.uint8))
        yield compare(f"{what} codes", REFERENCE, quantized.codes, want_codes)
        for name, got in (("dequantize", quantized.dequantize()), ("fake_quantize", at_once)):
            yield compare(f"{what} {name}", REFERENCE, got.view(np.uint32), decoded.view(np.uint32))
