"""Float32 blocks to element codes and scales, and back.

Every kernel takes blocks as the rows of a C-contiguous array; strides, axes, dtypes and partial blocks are the face's business.

An element is rounded where the float32 adder already rounds: for |x| / scale in the binade 2^e, adding the float32 whose ulp is the
element's quantum at 2^e leaves the number of quanta in the low bits, rounded to nearest even. Below emin the quantum is that of emin.
The loops run over `shape[1]` and index whole 2-D arrays because that is what the compiler turns into vector code.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import bits_float, float_bits, shift_right
from mxsim.kernels.lanes import LANES, largest_bits, store_codes, store_values
from mxsim.kernels.parameters import (
    KEEP,
    MINUS,
    NEAREST_AWAY,
    NEAREST_EVEN,
    NEAREST_ZERO,
    STOCHASTIC,
    TOWARD_ZERO,
    BlockScaling,
    ElementGrid,
)
from mxsim.kernels.philox import philox_word

Float32Blocks = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

ABS = np.int32(0x7FFFFFFF)
EXPONENT = np.int32(0x7F800000)
CHUNK = 1024  #: blocks to one unit of parallel work


@njit(inline="always")
def amax_bits(x: Float32Blocks, b: int) -> np.int32:
    """Float32 bits of block b's largest magnitude; at least EXPONENT when the block is not finite, above it with NaN."""
    amax = np.int32(0)
    for k in range(x.shape[1]):
        amax = max(amax, np.int32(float_bits(x[b, k]) & ABS))
    return amax


@njit(inline="always")
def block_amax(x: Float32Blocks, b: int) -> Any:
    """The same, the quicker way where the block's size has one."""
    return largest_bits(x, b) if x.shape[1] == LANES else amax_bits(x, b)


@njit(inline="always")
def steps(magnitude: Any, grid: ElementGrid) -> tuple[Any, Any]:
    """Magnitude in units of its quantum, rounded to nearest even, with the binade: float32 bits of a power of two."""
    binade = max(np.int32(float_bits(magnitude) & EXPONENT), grid.emin_bits)
    magic = np.int32(binade + grid.magic_bits)
    return np.int32(float_bits(magnitude + bits_float(magic)) - magic), binade


@njit(inline="always")
def resteps(count: Any, magnitude: Any, quantum: Any, rounding: int, random: Any) -> Any:
    """The number of quanta under another rounding, given the nearest-even one. Every operation here is exact."""
    if rounding == NEAREST_EVEN:
        return count
    rounded = np.float32(count) * quantum
    truncated = count - 1 if rounded > magnitude else count
    if rounding == TOWARD_ZERO:
        return truncated
    half = np.float32(0.5) * quantum
    if rounding == NEAREST_AWAY:
        return count + 1 if magnitude - rounded == half else count
    if rounding == NEAREST_ZERO:
        return count - 1 if rounded - magnitude == half else count
    fraction = (magnitude - np.float32(truncated) * quantum) / quantum
    return truncated + 1 if random < np.int64(fraction * np.float32(4294967296.0)) else truncated


@njit(inline="always")
def rounded_steps(magnitude: Any, grid: ElementGrid, rounding: int, random: Any) -> tuple[Any, Any]:
    """steps under any rounding; random is a 32-bit number, for the stochastic one."""
    count, binade = steps(magnitude, grid)
    return resteps(count, magnitude, quantum_of(binade, grid), rounding, random), binade


@njit(inline="always")
def quantum_of(binade: Any, grid: ElementGrid) -> Any:
    """The quantum in a binade."""
    return bits_float(np.int32(binade - np.int32(np.int32(23 - grid.shift) << 23)))


@njit(inline="always")
def signed(code: Any, x: np.float32, grid: ElementGrid) -> Any:
    """A magnitude code with the sign of x."""
    sign = shift_right(float_bits(x), np.int32(31))
    if grid.fixed_point:
        return np.int32(np.int32(code ^ sign) - sign)
    return np.int32(code | np.int32(sign & grid.sign_mask))


@njit(inline="always")
def code_of(count: Any, binade: Any, grid: ElementGrid) -> Any:
    """Magnitude code of `count` quanta in a binade."""
    return np.int32(count + shift_right(np.int32(binade - grid.emin_bits), grid.shift))


@njit(cache=True)
def e4m3_code(x: np.float32) -> Any:
    """E4M3 code of a finite x >= 0: nearest even, saturating at 448."""
    binade = max(np.int32(float_bits(x) & EXPONENT), np.int32(121 << 23))
    magic = np.int32(binade + np.int32(20 << 23))
    count = np.int32(float_bits(x + bits_float(magic)) - magic)
    return min(count + ((binade - np.int32(121 << 23)) >> 20), 126)


@njit(cache=True)
def scale_row(amax: np.int32, scaling: BlockScaling) -> Any:
    """The row of the scale tables for a block whose largest magnitude has these float32 bits."""
    if amax < scaling.after_vanished:
        return scaling.zero if amax == 0 else scaling.vanished
    if amax >= EXPONENT:
        return scaling.nan if amax > EXPONENT else scaling.inf
    if scaling.guess == 0:
        binade, fraction = np.int64(amax >> 23), np.int64(amax & 0x7FFFFF)
        if binade == 0:
            leading = np.int64(float_bits(np.float32(amax)) >> 23) - 127
            binade, fraction = 255 + leading, np.int64(amax << (23 - leading)) & 0x7FFFFF
        return scaling.above[binade] if fraction >= scaling.threshold[binade] else scaling.below[binade]
    row = e4m3_code(min(bits_float(amax) * scaling.guess, np.float32(448)))
    while row > 0 and scaling.first[row] > amax:
        row -= 1
    while row < scaling.first.size - 1 and scaling.first[row + 1] <= amax:
        row += 1
    return row


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
def sign_of_zero(scaled_input: np.float32, negative: bool, grid: ElementGrid) -> bool:
    """Whether a zero result is negative: as its input is, unless the policy says otherwise."""
    rule = grid.zero_sign if scaled_input <= grid.underflow else grid.underflow_sign
    return rule == MINUS or (rule == KEEP and negative)


@njit(inline="always")
def exact(grid: ElementGrid) -> bool:
    """Whether block loops alone give a policy's elements: signs of zeros kept, or none there are, and no slips."""
    signs = grid.fixed_point or (grid.zero_sign == KEEP and grid.underflow_sign == KEEP)
    return bool(signs and grid.slip == 0)


@njit(inline="always")
def float_codes_corrected(x: Float32Blocks, codes: Bytes, b: int, factor: np.float32, multiply: bool, grid: ElementGrid) -> None:
    """correct_codes for a floating format, without branches. `multiply` is a constant where this is called."""
    slip = grid.slip if grid.slip > 0 else np.float32(-1.0)
    mask = np.int32(grid.sign_mask)
    for k in range(x.shape[1]):
        code = np.int32(codes[b, k])
        sign = np.int32(code & mask)
        magnitude = scaled(x[b, k], factor, multiply)
        rule = grid.zero_sign if magnitude <= grid.underflow else grid.underflow_sign
        zero = mask if rule == MINUS else (sign if rule == KEEP else np.int32(0))
        small = np.int32(sign | 1) if magnitude == slip else zero
        codes[b, k] = small if code == sign else code


@njit(cache=True)
def correct_codes(x: Float32Blocks, codes: Bytes, b: int, factor: np.float32, multiply: bool, grid: ElementGrid) -> None:
    """Turn block b's exact codes, signs kept, into those of a policy that is not exact."""
    if grid.fixed_point:
        for k in range(x.shape[1]):
            if codes[b, k] == 0 and grid.slip > 0 and scaled(x[b, k], factor, multiply) == grid.slip:
                codes[b, k] = signed(np.int32(1), x[b, k], grid)
    elif multiply:
        float_codes_corrected(x, codes, b, factor, True, grid)
    else:
        float_codes_corrected(x, codes, b, factor, False, grid)


@njit(inline="always")
def float_values_corrected(
    x: npt.NDArray[np.float32], y: Float32Blocks, b: int, factor: np.float32, smallest: np.float32, multiply: bool, grid: ElementGrid
) -> None:
    """correct_values for a floating format, without branches. `multiply` is a constant where this is called."""
    slip = grid.slip if grid.slip > 0 else np.float32(-1.0)
    for k in range(y.shape[1]):
        value = y[b, k]
        magnitude = scaled(x[k], factor, multiply)
        rule = grid.zero_sign if magnitude <= grid.underflow else grid.underflow_sign
        zero = np.float32(-0.0) if rule == MINUS else (value if rule == KEEP else np.float32(0.0))
        small = math.copysign(smallest, x[k]) if magnitude == slip else zero
        y[b, k] = small if value == 0 else value


@njit(cache=True)
def correct_values(
    x: npt.NDArray[np.float32],
    y: Float32Blocks,
    b: int,
    factor: np.float32,
    scale: np.float32,
    multiply: bool,
    smallest: np.float32,
    grid: ElementGrid,
) -> None:
    """The same for values, given block b's inputs x (B,) from before they were overwritten."""
    least = np.float32(smallest * scale)
    if grid.fixed_point:
        for k in range(y.shape[1]):
            if y[b, k] == 0 and grid.slip > 0 and scaled(x[k], factor, multiply) == grid.slip:
                y[b, k] = math.copysign(least, x[k])
    elif multiply:
        float_values_corrected(x, y, b, factor, least, True, grid)
    else:
        float_values_corrected(x, y, b, factor, least, False, grid)


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
    negative = float_bits(x) < 0
    if code == 0 and magnitude == grid.slip and grid.slip > 0:
        code = np.int32(1)
    if code == 0:
        negative = sign_of_zero(magnitude, negative, grid)
    if not negative:
        return code
    return -code & 0xFF if grid.fixed_point else code | grid.sign_mask


@njit(inline="always")
def nearest_even_codes(x: Float32Blocks, codes: Bytes, b: int, factor: np.float32, multiply: bool, grid: ElementGrid) -> None:
    """The codes of a finite block b. `multiply` is a constant where this is called, so that no branch stays in the loop."""
    for k in range(x.shape[1]):
        x_k = x[b, k]
        count, binade = steps(clamped(x_k, factor, multiply, grid), grid)
        codes[b, k] = signed(code_of(count, binade, grid), x_k, grid)


@njit(inline="always")
def nearest_even_values(
    x: Float32Blocks, y: Float32Blocks, b: int, factor: np.float32, multiply: bool, scale: np.float32, zero: np.float32, grid: ElementGrid
) -> None:
    """The values of a finite block b, `zero` added."""
    for k in range(x.shape[1]):
        x_k = x[b, k]
        magnitude = clamped(x_k, factor, multiply, grid)
        binade = max(np.int32(float_bits(magnitude) & EXPONENT), grid.emin_bits)
        magic = bits_float(np.int32(binade + grid.magic_bits))
        y[b, k] = math.copysign(np.float32(((magnitude + magic) - magic) * scale), x_k) + zero


@njit(parallel=True, cache=True)
def quantize_blocks(
    x: Float32Blocks,
    codes: Bytes,
    scales: Bytes,
    grid: ElementGrid,
    scaling: BlockScaling,
    rounding: int,
    seed: int,
    row_index: npt.NDArray[np.int64],
    blocks_per_row: int,
    index_step: int,
) -> None:
    """x (n, B) to codes (n, B) and scales (n,). row_index, blocks_per_row, index_step: where a block's elements stand in the whole
    tensor, for stochastic rounding; element k of block b is number row_index[b // blocks_per_row] + (b % blocks_per_row * B + k) * step.
    """
    vectors = rounding == NEAREST_EVEN and x.shape[1] == LANES and not grid.fixed_point
    for chunk in prange((x.shape[0] + CHUNK - 1) // CHUNK):
        xs = x[chunk * CHUNK : (chunk + 1) * CHUNK]
        cs = codes[chunk * CHUNK : (chunk + 1) * CHUNK]
        for b in range(xs.shape[0]):
            amax = block_amax(xs, b)
            row = scale_row(amax, scaling)
            scales[chunk * CHUNK + b] = scaling.codes[row]
            factor, multiply = scaling.factors[row], scaling.multiply[row]
            if amax >= EXPONENT or not abs(factor) < np.inf:
                for k in range(xs.shape[1]):
                    cs[b, k] = element_code(xs[b, k], factor, multiply, grid)
                continue
            if vectors:
                store_codes(xs, cs, b, factor, multiply, grid.max_value, grid.emin_bits, grid.magic_bits, grid.shift, grid.sign_mask)
            elif rounding == NEAREST_EVEN and multiply:
                nearest_even_codes(xs, cs, b, factor, True, grid)
            elif rounding == NEAREST_EVEN:
                nearest_even_codes(xs, cs, b, factor, False, grid)
            elif rounding == STOCHASTIC:
                block = chunk * CHUNK + b
                index = row_index[block // blocks_per_row] + block % blocks_per_row * xs.shape[1] * index_step
                for k in range(xs.shape[1]):
                    x_k = xs[b, k]
                    random = np.int64(philox_word(np.uint64(index + k * index_step), seed))
                    count, binade = rounded_steps(clamped(x_k, factor, multiply, grid), grid, STOCHASTIC, random)
                    cs[b, k] = signed(code_of(count, binade, grid), x_k, grid)
            else:
                for k in range(xs.shape[1]):
                    x_k = xs[b, k]
                    count, binade = rounded_steps(clamped(x_k, factor, multiply, grid), grid, rounding, 0)
                    cs[b, k] = signed(code_of(count, binade, grid), x_k, grid)
            if not exact(grid):
                correct_codes(xs, cs, b, factor, multiply, grid)


@njit(parallel=True, cache=True)
def fake_quantize_blocks(
    x: Float32Blocks,
    out: Float32Blocks,
    values: npt.NDArray[np.float32],
    grid: ElementGrid,
    scaling: BlockScaling,
    rounding: int,
    seed: int,
    row_index: npt.NDArray[np.int64],
    blocks_per_row: int,
    index_step: int,
) -> None:
    """x (n, B) to the values (n, B) that its codes stand for. values: the element format's; the rest as in quantize_blocks."""
    vectors = rounding == NEAREST_EVEN and x.shape[1] == LANES and not grid.fixed_point
    zero = np.float32(0.0) if grid.fixed_point else np.float32(-0.0)  # adding it makes -0 a +0, or changes nothing
    for chunk in prange((x.shape[0] + CHUNK - 1) // CHUNK):
        before = np.empty(x.shape[1], np.float32)
        xs = x[chunk * CHUNK : (chunk + 1) * CHUNK]
        ys = out[chunk * CHUNK : (chunk + 1) * CHUNK]
        for b in range(xs.shape[0]):
            amax = block_amax(xs, b)
            row = scale_row(amax, scaling)
            factor, multiply, scale = scaling.factors[row], scaling.multiply[row], scaling.values[row]
            if scale != scale:
                ys[b] = np.float32(np.nan)
                continue
            if not exact(grid):
                before[:] = xs[b]
            if amax >= EXPONENT or not abs(factor) < np.inf:
                for k in range(xs.shape[1]):
                    ys[b, k] = values[element_code(xs[b, k], factor, multiply, grid)] * scale
                continue
            if vectors:
                store_values(xs, ys, b, factor, multiply, scale, grid.max_value, grid.emin_bits, grid.magic_bits)
            elif rounding == NEAREST_EVEN and multiply:
                nearest_even_values(xs, ys, b, factor, True, scale, zero, grid)
            elif rounding == NEAREST_EVEN:
                nearest_even_values(xs, ys, b, factor, False, scale, zero, grid)
            elif rounding == STOCHASTIC:
                block = chunk * CHUNK + b
                index = row_index[block // blocks_per_row] + block % blocks_per_row * xs.shape[1] * index_step
                for k in range(xs.shape[1]):
                    x_k = xs[b, k]
                    random = np.int64(philox_word(np.uint64(index + k * index_step), seed))
                    count, binade = rounded_steps(clamped(x_k, factor, multiply, grid), grid, STOCHASTIC, random)
                    rounded = np.float32(count) * quantum_of(binade, grid)
                    ys[b, k] = math.copysign(np.float32(rounded * scale), x_k) + zero
            else:
                for k in range(xs.shape[1]):
                    x_k = xs[b, k]
                    count, binade = rounded_steps(clamped(x_k, factor, multiply, grid), grid, rounding, 0)
                    rounded = np.float32(count) * quantum_of(binade, grid)
                    ys[b, k] = math.copysign(np.float32(rounded * scale), x_k) + zero
            if not exact(grid):
                correct_values(before, ys, b, factor, scale, multiply, values[1], grid)


@njit(parallel=True, cache=True)
def tensor_amax_bits(x: Float32Blocks, finite_only: bool) -> Any:
    """Float32 bits of the largest magnitude in all blocks, Inf and NaN left out or not; 0 where there is none."""
    chunks = (x.shape[0] + CHUNK - 1) // CHUNK
    largest = np.zeros(chunks, np.int32)
    for chunk in prange(chunks):
        xs = x[chunk * CHUNK : (chunk + 1) * CHUNK]
        for b in range(xs.shape[0]):
            amax = amax_bits(xs, b)
            if finite_only and amax >= EXPONENT:
                amax = np.int32(0)
                for k in range(xs.shape[1]):
                    bits = np.int32(float_bits(xs[b, k]) & ABS)
                    amax = max(amax, bits) if bits < EXPONENT else amax
            largest[chunk] = max(largest[chunk], amax)
    return largest.max() if chunks else 0


@njit(cache=True)
def encode_elements(x: npt.NDArray[np.float32], codes: Bytes, grid: ElementGrid, rounding: int, seed: int) -> None:
    """x (n,) to codes (n,), each element by itself."""
    for i in range(x.size):
        if rounding == NEAREST_EVEN or not abs(x[i]) <= grid.max_value:
            codes[i] = element_code(x[i], np.float32(1), False, grid)
        else:
            random = np.int64(philox_word(np.uint64(i), seed)) if rounding == STOCHASTIC else 0
            count, binade = rounded_steps(np.float32(abs(x[i])), grid, rounding, random)
            codes[i] = signed(code_of(count, binade, grid), x[i], grid)


@njit(parallel=True, cache=True)
def dequantize_blocks(
    codes: Bytes,
    scales: Bytes,
    out: Float32Blocks,
    element_values: npt.NDArray[np.float32],
    scale_values: npt.NDArray[np.float32],
    grid: ElementGrid,
    bias_bits: np.int32,
    smallest: np.float32,
) -> None:
    """codes (n, B), scales (n,) to values (n, B).

    element_values, scale_values: (codes,) of each format. bias_bits: what turns an element's exponent bits into a float32's.
    smallest: the quantum of subnormals, and of fixed point.
    """
    for chunk in prange((codes.shape[0] + CHUNK - 1) // CHUNK):
        cs = codes[chunk * CHUNK : (chunk + 1) * CHUNK]
        ys = out[chunk * CHUNK : (chunk + 1) * CHUNK]
        for b in range(cs.shape[0]):
            scale = scale_values[scales[chunk * CHUNK + b]]
            if scale != scale:
                ys[b] = np.float32(np.nan)
                continue
            if grid.fixed_point:
                for k in range(cs.shape[1]):
                    ys[b, k] = np.float32(np.int8(cs[b, k])) * smallest * scale
                continue
            largest = np.int32(0)
            for k in range(cs.shape[1]):
                largest = max(largest, np.int32(cs[b, k] & ~grid.sign_mask))
            if largest > grid.max_code:
                for k in range(cs.shape[1]):
                    ys[b, k] = element_values[cs[b, k]] * scale
                continue
            first_normal = np.int32(1 << (23 - grid.shift))
            for k in range(cs.shape[1]):
                magnitude = np.int32(cs[b, k] & ~grid.sign_mask)
                normal = bits_float(np.int32((magnitude << grid.shift) + bias_bits))
                value = normal if magnitude >= first_normal else np.float32(magnitude) * smallest
                sign = np.int32(np.int32(cs[b, k] & grid.sign_mask) != 0) << 31
                ys[b, k] = bits_float(float_bits(np.float32(value * scale)) | sign)
