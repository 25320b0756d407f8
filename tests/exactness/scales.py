"""Scale codes at every exponent, at and beside each decision point of each rule."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

import mxsim
from tests.exactness.comparison import Comparison, compare
from tests.oracles import conversion, numbers

SCALED_FORMATS = {name: element for name, (element, _) in conversion.BLOCK_FORMATS.items() if name != "nvfp4"}


def amax_patterns(element_name: str) -> npt.NDArray[np.uint32]:
    """Bits of positive float32 numbers, subnormals too: every exponent with the mantissas where a rule decides."""
    element = numbers.ELEMENTS[element_name]
    decisions = [
        Fraction(1),
        element.max / numbers.power_of_two(element.emax),  # rceil
        2 - numbers.power_of_two(-element.mbits - 1),  # even
        Fraction(3, 2),
        2 - numbers.power_of_two(-23),
    ]
    patterns = set()
    for significand in decisions:
        for exponent in range(-149, 128):
            bits = numbers.to_float32(numbers.Number(0, significand * numbers.power_of_two(exponent)))
            patterns.update((bits - 1, bits, bits + 1))
    return np.array(sorted(bits for bits in patterns if 0 < bits < numbers.FLOAT32_INF), np.uint32)


def scale_comparison(format_name: str, scale_rule: str, block_size: int) -> Comparison:
    """Blocks of one amax and zeros, against the exact rule. The patterns ascend: blocks of 32 and one size are converted together."""
    element = SCALED_FORMATS[format_name]
    patterns = amax_patterns(element)
    values = np.zeros((patterns.size, block_size), np.float32)
    values[:, 0] = patterns.view(np.float32)
    values[1::2] *= -1
    got = mxsim.quantize(values, format_name, scale_rule=scale_rule, block_size=block_size).scales
    want = [conversion.scale_code(numbers.from_float32(int(bits)).magnitude, element, scale_rule) for bits in patterns]
    return compare(
        f"{format_name} scale {scale_rule}, block {block_size}",
        "exact oracle",
        got.ravel(),
        np.array(want, np.uint8),
        lambda i: f"amax {int(patterns[i]):#010x}",
    )


def comparisons() -> Iterator[Comparison]:
    for format_name in SCALED_FORMATS:
        for scale_rule in conversion.SCALE_RULES:
            yield from (scale_comparison(format_name, scale_rule, block_size) for block_size in (2, 32))
