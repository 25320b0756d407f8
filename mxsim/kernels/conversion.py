"""Float32 blocks to element codes and scales, or at once to the values that those stand for.

Every kernel takes blocks as the rows of a C-contiguous array; strides, axes, dtypes and partial blocks are the face's business.

How an element is rounded is said in mxsim.kernels.rounding. The loops run over `shape[1]` and index whole 2-D arrays because that is what
the compiler turns into vector code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.bits import bits_float, float_bits, shift_right
from mxsim.kernels.lanes import (
    TOGETHER,
    fence,
    largest_bits,
    pieces_of,
    prefetch,
    store_codes,
    store_codes_in_place,
    store_values,
    store_values_in_place,
)
from mxsim.kernels.parameters import NEAREST_EVEN, STOCHASTIC, BlockScaling, ElementGrid
from mxsim.kernels.rounding import (
    EXPONENT,
    clamped,
    code_of,
    e4m3_code,
    element_code,
    is_plain,
    policy_code,
    policy_value,
    quantum_of,
    random_word,
    resteps,
    signed_code,
    slip_of,
    steps,
    stochastic_steps,
    zero_rules,
)
from mxsim.kernels.threads import CHUNK, first_block

Float32Blocks = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
BlockPlace = tuple[int, npt.NDArray[np.int64], int, int]  #: first block, row_index, blocks_per_row, index_step: see first_element

ABS = np.int32(0x7FFFFFFF)
GROUP = 64  #: blocks whose largest magnitudes are found before the first of them is converted, so that neither waits for the other
AHEAD = GROUP + GROUP // 4  #: blocks ahead of the one converted, of those to be looked at next: see prefetch


@njit(inline="always")
def amax_bits(x: Float32Blocks, b: int) -> np.int32:
    """Float32 bits of block b's largest magnitude; at least EXPONENT when the block is not finite, above it with NaN."""
    amax = np.int32(0)
    for k in range(x.shape[1]):
        amax = max(amax, np.int32(float_bits(x[b, k]) & ABS))
    return amax


@njit(inline="always")
def find_amaxes(pieces: Float32Blocks, first: int, count: int, each: int, amaxes: npt.NDArray[np.int32]) -> None:
    """amax_bits of `count` blocks, of `each` pieces that are vectors. amaxes: at least (count * each,)."""
    done, total = 0, count * each
    while done + TOGETHER <= total:
        largest_bits(pieces, first * each + done, amaxes, done)
        done += TOGETHER
    for i in range(done, total):
        amaxes[i] = amax_bits(pieces, first * each + i)
    if each > 1:
        for i in range(count):
            largest = np.int32(0)
            for piece in range(i * each, (i + 1) * each):
                largest = max(largest, amaxes[piece])
            amaxes[i] = largest


@njit(inline="always")
def guessed_row(amax: np.int32, scaling: BlockScaling) -> Any:
    """About the row of a block's E4M3 scale, and just that where the scale is steady; E8M0 has no use for it."""
    scale = np.float32(np.float32(bits_float(amax) / scaling.over) / scaling.under) * scaling.times
    return e4m3_code(min(scale, np.float32(448)))


@njit(inline="always")
def scale_row(amax: np.int32, guess: Any, scaling: BlockScaling) -> np.uint64:
    """The row of the scale tables for a block whose largest magnitude has these float32 bits: unsigned, as the compiler indexes quickest.

    guess: guessed_row's.
    """
    if amax < scaling.after_vanished:
        return np.uint64(scaling.zero if amax == 0 else scaling.vanished)
    if amax >= EXPONENT:
        return np.uint64(scaling.nan if amax > EXPONENT else scaling.inf)
    if not scaling.is_e4m3:
        binade, fraction = np.uint64(amax >> 23), np.int32(amax & 0x7FFFFF)
        if binade == 0:
            leading = np.int64(float_bits(np.float32(amax)) >> 23) - 127
            binade, fraction = np.uint64(255 + leading), np.int32(np.int64(amax << (23 - leading)) & 0x7FFFFF)
        return np.uint64(scaling.above[binade] if fraction >= scaling.threshold[binade] else scaling.below[binade])
    row = np.uint64(guess)
    while scaling.first[row] > amax:
        row -= np.uint64(1)
    while scaling.first[row + np.uint64(1)] <= amax:
        row += np.uint64(1)
    return row


@njit(inline="always")
def first_element(b: int, block_size: int, place: BlockPlace) -> Any:
    """The number of block b's first element in the whole tensor: whatever part of it is converted, random numbers go by it."""
    first, row_index, blocks_per_row, index_step = place
    block = first + b
    return row_index[block // blocks_per_row] + block % blocks_per_row * block_size * index_step


@njit(inline="always")
def looped_codes(x: Float32Blocks, codes: Bytes, b: int, factor: np.float32, multiply: bool, rounding: int, grid: ElementGrid) -> None:
    """The codes of a finite block b under any rounding but the stochastic one.

    multiply is a constant where this is called: only then is the loop vector code.
    """
    slip, rules = slip_of(grid), zero_rules(grid)
    for k in range(x.shape[1]):
        magnitude = clamped(x[b, k], factor, multiply, grid)
        count, binade = steps(magnitude, grid)
        count = resteps(count, magnitude, quantum_of(binade, grid), rounding)
        codes[b, k] = policy_code(count, binade, magnitude, x[b, k], slip, grid, rules)


@njit(inline="always")
def looped_values(
    x: Float32Blocks, y: Float32Blocks, b: int, factor: np.float32, multiply: bool, scale: np.float32, rounding: int, grid: ElementGrid
) -> None:
    """The values of a finite block b, likewise. x and y are different memory."""
    slip, rules = slip_of(grid), zero_rules(grid)
    for k in range(x.shape[1]):
        magnitude = clamped(x[b, k], factor, multiply, grid)
        count, binade = steps(magnitude, grid)
        quantum = quantum_of(binade, grid)
        count = resteps(count, magnitude, quantum, rounding)
        y[b, k] = policy_value(count, quantum, magnitude, x[b, k], scale, slip, grid, rules)


@njit(cache=True)
def stochastic_codes(
    x: Float32Blocks, codes: Bytes, b: int, factor: np.float32, multiply: bool, grid: ElementGrid, seed: int, place: BlockPlace
) -> None:
    """The codes of a finite block b under stochastic rounding."""
    element, step = first_element(b, x.shape[1], place), place[3]
    slip, rules = slip_of(grid), zero_rules(grid)
    for k in range(x.shape[1]):
        magnitude = clamped(x[b, k], factor, multiply, grid)
        count, binade = steps(magnitude, grid)
        count = stochastic_steps(count, magnitude, quantum_of(binade, grid), random_word(element + k * step, seed))
        codes[b, k] = policy_code(count, binade, magnitude, x[b, k], slip, grid, rules)


@njit(cache=True)
def stochastic_values(
    x: Float32Blocks,
    y: Float32Blocks,
    b: int,
    factor: np.float32,
    multiply: bool,
    scale: np.float32,
    grid: ElementGrid,
    seed: int,
    place: BlockPlace,
) -> None:
    """The values of a finite block b, likewise."""
    element, step = first_element(b, x.shape[1], place), place[3]
    slip, rules = slip_of(grid), zero_rules(grid)
    for k in range(x.shape[1]):
        magnitude = clamped(x[b, k], factor, multiply, grid)
        count, binade = steps(magnitude, grid)
        quantum = quantum_of(binade, grid)
        count = stochastic_steps(count, magnitude, quantum, random_word(element + k * step, seed))
        y[b, k] = policy_value(count, quantum, magnitude, x[b, k], scale, slip, grid, rules)


@njit(cache=True)
def special_codes(x: Float32Blocks, codes: Bytes, b: int, factor: np.float32, multiply: bool, grid: ElementGrid) -> None:
    """The codes of a block b that is not finite, or whose scale is not."""
    for k in range(x.shape[1]):
        codes[b, k] = element_code(x[b, k], factor, multiply, grid)


@njit(cache=True)
def special_values(
    x: Float32Blocks,
    y: Float32Blocks,
    b: int,
    factor: np.float32,
    multiply: bool,
    scale: np.float32,
    values: npt.NDArray[np.float32],
    grid: ElementGrid,
) -> None:
    """The values of such a block."""
    for k in range(x.shape[1]):
        y[b, k] = np.float32(np.nan) if scale != scale else values[element_code(x[b, k], factor, multiply, grid)] * scale


@njit(inline="always")
def are_steady(amaxes: npt.NDArray[np.int32], count: int, scaling: BlockScaling) -> bool:
    """Whether the scales of `count` blocks are all steady: see BlockScaling."""
    smallest, largest = amaxes[0], amaxes[0]
    for i in range(1, count):
        smallest, largest = min(smallest, amaxes[i]), max(largest, amaxes[i])
    return bool(smallest >= scaling.steady_from and largest < scaling.steady_to)


@njit(inline="always")
def steady_exponent(amax: np.int32, scaling: BlockScaling) -> np.int32:
    """The exponent of a steady scale, << 23."""
    return np.int32(np.int32(np.int32(amax + scaling.carry) & EXPONENT) - scaling.fixed)


@njit(inline="always")
def vectors_to_codes(x: Float32Blocks, codes: Bytes, scales: Bytes, plain: bool, grid: ElementGrid, scaling: BlockScaling) -> None:
    """quantize_blocks for a chunk under nearest even, of a size that has vectors. plain is a constant where this is called."""
    each = pieces_of(x.shape[1])
    pieces, their_codes = x.reshape(-1, x.shape[1] // each), codes.reshape(-1, x.shape[1] // each)
    amaxes, rows = np.empty(GROUP * each, np.int32), np.empty(GROUP, np.uint32)
    for group in range(0, x.shape[0], GROUP):
        count = min(GROUP, x.shape[0] - group)
        find_amaxes(pieces, group, count, each, amaxes)
        steady = are_steady(amaxes, count, scaling)
        if steady and plain and not scaling.is_e4m3:
            for i in range(count):
                amaxes[i] = steady_exponent(amaxes[i], scaling)
                scales[group + i] = (amaxes[i] >> 23) + 127
            for i in range(count):
                for piece in range((group + i) * each, (group + i + 1) * each):
                    prefetch(pieces, (piece + AHEAD * each) * pieces.shape[1])
                    store_codes_in_place(pieces, their_codes, piece, amaxes[i], grid)
            continue
        for i in range(count):
            rows[i] = guessed_row(amaxes[i], scaling)
        if steady and scaling.is_e4m3:
            multiply = scaling.multiply[rows[0]]
            for i in range(count):
                row = np.uint64(rows[i])
                scales[group + i], factor = scaling.codes[row], scaling.factors[row]
                for piece in range((group + i) * each, (group + i + 1) * each):
                    prefetch(pieces, (piece + AHEAD * each) * pieces.shape[1])
                    store_codes(pieces, their_codes, piece, factor, multiply, plain, grid)
            continue
        for i in range(count):
            row = scale_row(amaxes[i], rows[i], scaling)
            scales[group + i] = scaling.codes[row]
            factor, multiply = scaling.factors[row], scaling.multiply[row]
            if amaxes[i] >= EXPONENT or not abs(factor) < np.inf:
                special_codes(x, codes, group + i, factor, multiply, grid)
            else:
                for piece in range((group + i) * each, (group + i + 1) * each):
                    store_codes(pieces, their_codes, piece, factor, multiply, plain, grid)


@njit(cache=True)
def chunk_to_codes(
    x: Float32Blocks, codes: Bytes, scales: Bytes, grid: ElementGrid, scaling: BlockScaling, rounding: int, seed: int, place: BlockPlace
) -> None:
    """quantize_blocks for a chunk."""
    if rounding == NEAREST_EVEN and pieces_of(x.shape[1]) > 0:
        if is_plain(grid):
            vectors_to_codes(x, codes, scales, True, grid, scaling)
        else:
            vectors_to_codes(x, codes, scales, False, grid, scaling)
        return
    for b in range(x.shape[0]):
        amax = amax_bits(x, b)
        row = scale_row(amax, guessed_row(amax, scaling), scaling)
        scales[b] = scaling.codes[row]
        factor, multiply = scaling.factors[row], scaling.multiply[row]
        if amax >= EXPONENT or not abs(factor) < np.inf:
            special_codes(x, codes, b, factor, multiply, grid)
        elif rounding == STOCHASTIC:
            stochastic_codes(x, codes, b, factor, multiply, grid, seed, place)
        elif multiply:
            looped_codes(x, codes, b, factor, True, rounding, grid)
        else:
            looped_codes(x, codes, b, factor, False, rounding, grid)


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
    chunks = (x.shape[0] + CHUNK - 1) // CHUNK
    for turn in prange(chunks):
        first = first_block(turn, chunks)
        xs, cs, ss = x[first : first + CHUNK], codes[first : first + CHUNK], scales[first : first + CHUNK]
        chunk_to_codes(xs, cs, ss, grid, scaling, rounding, seed, (first, row_index, blocks_per_row, index_step))


@njit(inline="always")
def vectors_to_values(
    x: Float32Blocks, y: Float32Blocks, values: npt.NDArray[np.float32], stream: bool, plain: bool, grid: ElementGrid, scaling: BlockScaling
) -> None:
    """fake_quantize_blocks for a chunk under nearest even, of a size that has vectors. plain is a constant where this is called."""
    each = pieces_of(x.shape[1])
    pieces, their_values = x.reshape(-1, x.shape[1] // each), y.reshape(-1, x.shape[1] // each)
    amaxes, rows = np.empty(GROUP * each, np.int32), np.empty(GROUP, np.uint32)
    for group in range(0, x.shape[0], GROUP):
        count = min(GROUP, x.shape[0] - group)
        find_amaxes(pieces, group, count, each, amaxes)
        steady = are_steady(amaxes, count, scaling)
        if steady and plain and not scaling.is_e4m3:
            for i in range(count):
                amaxes[i] = steady_exponent(amaxes[i], scaling)
            for i in range(count):
                for piece in range((group + i) * each, (group + i + 1) * each):
                    prefetch(pieces, (piece + AHEAD * each) * pieces.shape[1])
                    store_values_in_place(pieces, their_values, piece, amaxes[i], stream, grid)
            continue
        for i in range(count):
            rows[i] = guessed_row(amaxes[i], scaling)
        if steady and scaling.is_e4m3:
            multiply = scaling.multiply[rows[0]]
            for i in range(count):
                row = np.uint64(rows[i])
                factor, scale = scaling.factors[row], scaling.values[row]
                for piece in range((group + i) * each, (group + i + 1) * each):
                    prefetch(pieces, (piece + AHEAD * each) * pieces.shape[1])
                    store_values(pieces, their_values, piece, factor, multiply, scale, stream, plain, grid)
            continue
        for i in range(count):
            row = scale_row(amaxes[i], rows[i], scaling)
            factor, multiply, scale = scaling.factors[row], scaling.multiply[row], scaling.values[row]
            if amaxes[i] >= EXPONENT or not abs(factor) < np.inf or scale != scale:
                special_values(x, y, group + i, factor, multiply, scale, values, grid)
            else:
                for piece in range((group + i) * each, (group + i + 1) * each):
                    store_values(pieces, their_values, piece, factor, multiply, scale, stream, plain, grid)
    if stream:
        fence()


@njit(cache=True)
def chunk_to_values(
    x: Float32Blocks,
    y: Float32Blocks,
    values: npt.NDArray[np.float32],
    grid: ElementGrid,
    scaling: BlockScaling,
    rounding: int,
    seed: int,
    place: BlockPlace,
    stream: bool,
) -> None:
    """fake_quantize_blocks for a chunk."""
    if rounding == NEAREST_EVEN and pieces_of(x.shape[1]) > 0:
        if is_plain(grid):
            vectors_to_values(x, y, values, stream, True, grid, scaling)
        else:
            vectors_to_values(x, y, values, stream, False, grid, scaling)
        return
    for b in range(x.shape[0]):
        amax = amax_bits(x, b)
        row = scale_row(amax, guessed_row(amax, scaling), scaling)
        factor, multiply, scale = scaling.factors[row], scaling.multiply[row], scaling.values[row]
        if amax >= EXPONENT or not abs(factor) < np.inf or scale != scale:
            special_values(x, y, b, factor, multiply, scale, values, grid)
        elif rounding == STOCHASTIC:
            stochastic_values(x, y, b, factor, multiply, scale, grid, seed, place)
        elif multiply:
            looped_values(x, y, b, factor, True, scale, rounding, grid)
        else:
            looped_values(x, y, b, factor, False, scale, rounding, grid)


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
    stream: bool,
) -> None:
    """x (n, B) to the values (n, B) that its codes stand for. values: the element format's; the rest as in quantize_blocks.

    stream: results may go past the caches: see mxsim.kernels.lanes. out must then be aligned to STREAM_ALIGNMENT.
    """
    chunks = (x.shape[0] + CHUNK - 1) // CHUNK
    for turn in prange(chunks):
        first = first_block(turn, chunks)
        xs, ys = x[first : first + CHUNK], out[first : first + CHUNK]
        chunk_to_values(xs, ys, values, grid, scaling, rounding, seed, (first, row_index, blocks_per_row, index_step), stream)


@njit(cache=True)
def chunk_amax_bits(x: Float32Blocks, finite_only: bool) -> Any:
    """tensor_amax_bits of a chunk."""
    largest = np.int32(0)
    amaxes = np.empty(GROUP, np.int32)
    for group in range(0, x.shape[0], GROUP):
        count = min(GROUP, x.shape[0] - group)
        if pieces_of(x.shape[1]) == 1:
            find_amaxes(x, group, count, 1, amaxes)
        else:
            for i in range(count):
                amaxes[i] = amax_bits(x, group + i)
        for i in range(count):
            amax = amaxes[i]
            if finite_only and amax >= EXPONENT:
                amax = np.int32(0)
                for k in range(x.shape[1]):
                    bits = np.int32(float_bits(x[group + i, k]) & ABS)
                    amax = max(amax, bits) if bits < EXPONENT else amax
            largest = max(largest, amax)
    return largest


@njit(parallel=True, cache=True)
def tensor_amax_bits(x: Float32Blocks, finite_only: bool) -> Any:
    """Float32 bits of the largest magnitude in all blocks, Inf and NaN left out or not; 0 where there is none."""
    chunks = (x.shape[0] + CHUNK - 1) // CHUNK
    largest = np.zeros(chunks, np.int32)
    for chunk in prange(chunks):
        largest[chunk] = chunk_amax_bits(x[chunk * CHUNK : (chunk + 1) * CHUNK], finite_only)
    return largest.max() if chunks else 0


@njit(cache=True)
def encode_elements(x: npt.NDArray[np.float32], codes: Bytes, grid: ElementGrid, rounding: int, seed: int) -> None:
    """x (n,) to codes (n,), each element by itself."""
    for i in range(x.size):
        if rounding == NEAREST_EVEN or not abs(x[i]) <= grid.max_value:
            codes[i] = element_code(x[i], np.float32(1), False, grid)
            continue
        magnitude = np.float32(abs(x[i]))
        count, binade = steps(magnitude, grid)
        quantum = quantum_of(binade, grid)
        if rounding == STOCHASTIC:
            count = stochastic_steps(count, magnitude, quantum, random_word(i, seed))
        else:
            count = resteps(count, magnitude, quantum, rounding)
        codes[i] = signed_code(np.int32(code_of(count, binade, grid)), shift_right(float_bits(x[i]), np.int32(31)), grid)
