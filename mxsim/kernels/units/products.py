"""D = C + A B through a unit, output by output: which chunks start from zero, and what is added to what.

Every output is computed alone and in one order, so neither the tiles nor the threads change a bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from mxsim.kernels.units.aligned import aligned, grouped
from mxsim.kernels.units.exact import LIMBS, exact
from mxsim.kernels.units.parameters import FLUSH_SIGNED, KEEP, Chunks, Fixed, Round
from mxsim.kernels.units.rounding import narrowed, power, sum_to_odd
from mxsim.kernels.units.stepwise import fma_chains, pairwise

ROWS, COLUMNS = 16, 32  #: outputs of a tile

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Significands = npt.NDArray[np.int32]
Exponents = npt.NDArray[np.int16]


@njit
def given_c(c: float, chunks: Chunks) -> Any:
    """The caller's C as the unit reads it."""
    if chunks.c_denormals != KEEP and abs(c) < power(chunks.c_normal):
        return math.copysign(0.0, c) if chunks.c_denormals == FLUSH_SIGNED else 0.0
    return c


@njit
def unsigned_zero(x: float, chunks: Chunks) -> Any:
    return 0.0 if chunks.positive_zero and x == 0.0 else x


@njit
def start(n: int, total: float, running: float, chunk: float, chunks: Chunks) -> Any:
    """Before chunk n: (promoted total, sum of instructions, what the chunk adds to), where an interval or instruction begins."""
    if chunks.interval and n % chunks.interval == 0:
        running = 0.0
        chunk = 0.0
    if chunks.instruction and n % chunks.instruction == 0:
        chunk = 0.0
    return total, running, chunk


@njit
def finish(n: int, total: float, running: float, chunk: float, chunks: Chunks, late: Round, promote: Round) -> Any:
    """After chunk n: the same, with what ended there added."""
    last = n + 1 == chunks.number
    chunk = unsigned_zero(chunk, chunks)
    if not chunks.instruction:
        running = chunk
    elif last or (n + 1) % chunks.instruction == 0:
        running = unsigned_zero(narrowed(sum_to_odd(running, chunk), late), chunks)
    if not chunks.interval:
        total = running
    elif last or (n + 1) % chunks.interval == 0:
        total = narrowed(sum_to_odd(total, running), promote)
    return total, running, chunk


@njit(parallel=True, cache=True, nogil=True)
def fixed_products(
    sa: Significands,
    ea: Exponents,
    sb: Significands,
    eb: Exponents,
    xa: Significands,
    xb: Significands,
    c: Float32,
    out: Float32,
    fixed: Fixed,
    chunks: Chunks,
    step: Round,
    late: Round,
    promote: Round,
    final: Round,
) -> None:
    """Fixed-point reductions.

    sa, ea: (M, places) or, with groups, (M, groups); sb, eb: the same for the N columns; xa, xb: the elements of groups, or (0, 0).
    c: (M, N) or (0, 0). out: (M, N); a NaN's bits are the face's business.
    """
    M, N = out.shape
    across = (N + COLUMNS - 1) // COLUMNS
    for tile in prange(((M + ROWS - 1) // ROWS) * across):
        limbs, sums = np.zeros(LIMBS, np.int64), np.zeros(chunks.length, np.int64)
        for i in range(tile // across * ROWS, min(tile // across * ROWS + ROWS, M)):
            for j in range(tile % across * COLUMNS, min(tile % across * COLUMNS + COLUMNS, N)):
                total = given_c(np.float64(c[i, j]), chunks) if c.size else 0.0
                running, chunk = total, total
                for n in range(chunks.number):
                    total, running, chunk = start(n, total, running, chunk, chunks)
                    at, length = n * chunks.length, chunks.length
                    if fixed.presum:
                        chunk = grouped(xa, xb, sa, ea, sb, eb, i, j, at, length, chunk, chunks.c_emin, fixed, step, sums)
                    elif fixed.exact:
                        chunk = exact(sa, ea, sb, eb, i, j, at, length, chunk, chunks.c_emin, fixed, step, limbs)
                    else:
                        chunk = aligned(sa, ea, sb, eb, i, j, at, length, chunk, chunks.c_emin, fixed, step)
                    total, running, chunk = finish(n, total, running, chunk, chunks, late, promote)
                out[i, j] = unsigned_zero(narrowed(total, final), chunks)


@njit(parallel=True, cache=True, nogil=True)
def stepwise_products(
    a: Float64,
    b: Float64,
    c: Float32,
    out: Float32,
    K: int,
    chains: int,
    chunks: Chunks,
    step: Round,
    late: Round,
    promote: Round,
    final: Round,
) -> None:
    """Chains of FMAs (chains 1 or 2) or pairwise trees (chains 0). a: (M, places), b: (N, places). A last FMA chunk ends at K."""
    M, N = out.shape
    across = (N + COLUMNS - 1) // COLUMNS
    for tile in prange(((M + ROWS - 1) // ROWS) * across):
        tree = np.zeros(chunks.length, np.float64)
        for i in range(tile // across * ROWS, min(tile // across * ROWS + ROWS, M)):
            for j in range(tile % across * COLUMNS, min(tile % across * COLUMNS + COLUMNS, N)):
                total = given_c(np.float64(c[i, j]), chunks) if c.size else 0.0
                running, chunk = total, total
                for n in range(chunks.number):
                    total, running, chunk = start(n, total, running, chunk, chunks)
                    at = n * chunks.length
                    if chains:
                        chunk = fma_chains(a, b, i, j, at, min(chunks.length, K - at), chains, chunk, step)
                    else:
                        chunk = pairwise(a, b, i, j, at, chunks.length, step, tree)
                    total, running, chunk = finish(n, total, running, chunk, chunks, late, promote)
                out[i, j] = unsigned_zero(narrowed(total, final), chunks)
