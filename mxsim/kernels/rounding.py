"""One element under a policy: its magnitude in quanta, rounded; its code and its value.

An element is rounded where the float32 adder already rounds: for |x| / scale in the binade 2^e, adding the float32 whose ulp is the
element's quantum at 2^e leaves the number of quanta in the low bits, rounded to nearest even. Below emin the quantum is that of emin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mxsim.kernels.bits import bits_float, float_bits, shift_right
from mxsim.kernels.parameters import KEEP, MINUS, NEAREST_AWAY, NEAREST_ZERO, TOWARD_ZERO, ElementGrid
from mxsim.kernels.philox import philox_word

ZeroRules = tuple[Any, Any, Any, Any]  #: see zero_rules

EXPONENT = np.int32(0x7F800000)


@njit(inline="always")
def steps(magnitude: Any, grid: ElementGrid) -> tuple[Any, Any]:
    """Magnitude in units of its quantum, rounded to nearest even, with the binade: float32 bits of a power of two."""
    binade = max(np.int32(float_bits(magnitude) & EXPONENT), grid.emin_bits)
    magic = np.int32(binade + grid.magic_bits)
    return np.int32(float_bits(magnitude + bits_float(magic)) - magic), binade


@njit(inline="always")
def resteps(count: Any, magnitude: Any, quantum: Any, rounding: int) -> Any:
    """The number of quanta under another rounding than the nearest-even one given, without branches. Every operation here is exact."""
    missed = np.float32(magnitude - np.float32(np.float32(count) * quantum))
    half = np.float32(np.float32(0.5) * quantum)
    up = (rounding == NEAREST_AWAY) & (missed == half)
    down = ((rounding == NEAREST_ZERO) & (missed == -half)) | ((rounding == TOWARD_ZERO) & (missed < 0))
    return np.int32(count + np.int32(up) - np.int32(down))


@njit(inline="always")
def stochastic_steps(count: Any, magnitude: Any, quantum: Any, random: Any) -> Any:
    """The same under stochastic rounding. random: a 32-bit number; every operation here is exact."""
    truncated = count - 1 if np.float32(count) * quantum > magnitude else count
    fraction = (magnitude - np.float32(truncated) * quantum) / quantum
    return np.int32(truncated + 1 if random < np.int64(fraction * np.float32(4294967296.0)) else truncated)


@njit(inline="always")
def quantum_of(binade: Any, grid: ElementGrid) -> Any:
    """The quantum in a binade."""
    return bits_float(np.int32(binade - np.int32(np.int32(23 - grid.shift) << 23)))


@njit(inline="always")
def code_of(count: Any, binade: Any, grid: ElementGrid) -> Any:
    """Magnitude code of `count` quanta in a binade."""
    return np.int32(count + shift_right(np.int32(binade - grid.emin_bits), grid.shift))


@njit(inline="always")
def e4m3_code(x: np.float32) -> Any:
    """E4M3 code of a finite x >= 0: nearest even, saturating at 448."""
    binade = max(np.int32(float_bits(x) & EXPONENT), np.int32(121 << 23))
    magic = np.int32(binade + np.int32(20 << 23))
    count = np.int32(float_bits(x + bits_float(magic)) - magic)
    return min(np.int32(count + shift_right(np.int32(binade - np.int32(121 << 23)), np.int32(20))), np.int32(126))


@njit(inline="always")
def scaled(x: np.float32, factor: np.float32, multiply: bool) -> np.float32:
    """|x| in units of its block's scale."""
    return np.float32(abs(x) * factor) if multiply else np.float32(abs(x) / factor)


@njit(inline="always")
def clamped(x: np.float32, factor: np.float32, multiply: bool, grid: ElementGrid) -> np.float32:
    """The same, no larger than the element format's largest number: that one is on the grid, so rounding keeps it."""
    magnitude = scaled(x, factor, multiply)
    return magnitude if magnitude < grid.max_value else grid.max_value


@njit(inline="always")
def is_plain(grid: ElementGrid) -> bool:
    """Whether a policy has no rule of its own for results of zero: signs kept, or none there are, and no slips."""
    signs = grid.fixed_point or (grid.zero_sign == KEEP and grid.underflow_sign == KEEP)
    return bool(signs and grid.slip == 0)


@njit(inline="always")
def slip_of(grid: ElementGrid) -> np.float32:
    """A policy's slip, or what no magnitude is."""
    return grid.slip if grid.slip > 0 else np.float32(-1.0)


@njit(inline="always")
def zero_rules(grid: ElementGrid) -> ZeroRules:
    """A policy's signs of zeros as masks, (keep, set) where the scaled input is zero, then where it is not: a zero result is negative
    where its input is and `keep` is -1, and where `set` is."""
    signs = np.int32(0 if grid.fixed_point else -1)
    zero_keep = signs if grid.zero_sign == KEEP else np.int32(0)
    zero_set = signs if grid.zero_sign == MINUS else np.int32(0)
    underflow_keep = signs if grid.underflow_sign == KEEP else np.int32(0)
    underflow_set = signs if grid.underflow_sign == MINUS else np.int32(0)
    return zero_keep, zero_set, underflow_keep, underflow_set


@njit(inline="always")
def sign_of(is_zero: bool, magnitude: np.float32, x: np.float32, grid: ElementGrid, rules: ZeroRules) -> Any:
    """-1 where a result is negative, else 0: as its input x is, unless it is zero and the policy says otherwise."""
    sign = shift_right(float_bits(x), np.int32(31))
    zero_keep, zero_set, underflow_keep, underflow_set = rules
    of_zero = np.int32((sign & zero_keep) | zero_set) if magnitude <= grid.underflow else np.int32((sign & underflow_keep) | underflow_set)
    return of_zero if is_zero else sign


@njit(inline="always")
def signed_code(code: Any, sign: Any, grid: ElementGrid) -> Any:
    """A magnitude code with a sign, -1 or 0."""
    negated = np.int32(np.int32(code ^ sign) - sign)
    return negated if grid.fixed_point else np.int32(code | np.int32(sign & grid.sign_mask))


@njit(cache=True)
def element_code(x: np.float32, factor: np.float32, multiply: bool, grid: ElementGrid) -> Any:
    """The code of one element, whatever it and its scale may be; rounding is to nearest even."""
    if factor != factor:
        if x != x:
            return grid.negative_nan_nan_code if float_bits(x) < 0 else grid.nan_nan_code
        return grid.negative_nan_scale_code if float_bits(factor) < 0 else grid.nan_scale_code
    if x != x:
        return grid.negative_nan_code if float_bits(x) < 0 else grid.nan_code
    magnitude = scaled(x, factor, multiply)
    if magnitude != magnitude:
        return grid.invalid_code
    if magnitude == np.float32(np.inf):
        code = grid.inf_code
    else:
        count, binade = steps(min(magnitude, grid.max_value), grid)
        code = code_of(count, binade, grid)
    if magnitude == slip_of(grid):
        code = np.int32(1)
    sign = sign_of(code == 0, magnitude, x, grid, zero_rules(grid))
    return signed_code(code, sign, grid) & 0xFF


@njit(inline="always")
def random_word(element: int, seed: int) -> Any:
    """The 32-bit random number of an element."""
    return np.int64(philox_word(np.uint64(element), seed))


@njit(inline="always")
def policy_code(
    count: Any, binade: Any, magnitude: np.float32, x: np.float32, slip: np.float32, grid: ElementGrid, rules: ZeroRules
) -> Any:
    """The code of x, with the number of quanta in its magnitude and the binade known. slip: grid's, or below 0 where there is none."""
    code = np.int32(1) if magnitude == slip else code_of(count, binade, grid)
    return signed_code(code, sign_of(code == 0, magnitude, x, grid, rules), grid)


@njit(inline="always")
def policy_value(
    count: Any, quantum: Any, magnitude: np.float32, x: np.float32, scale: np.float32, slip: np.float32, grid: ElementGrid, rules: ZeroRules
) -> Any:
    """The value of x under a scale, likewise."""
    steps_up = quantum_of(grid.emin_bits, grid) if magnitude == slip else np.float32(np.float32(count) * quantum)
    value = np.float32(steps_up * scale)
    return bits_float(np.int32(float_bits(value) | np.int32(sign_of(value == 0, magnitude, x, grid, rules) << 31)))
