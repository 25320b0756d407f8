"""Exact integers and float64 to floats of any narrower format, in any mode, one value at a time.

Numbers between the steps of a unit are float64: every float of up to 24 bits is one. A sum of two float64 is first rounded to odd, after
which a second rounding to 51 bits or fewer gives what one rounding of the exact sum would (Boldo and Melquiond, "Emulation of FMA and
correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from mxsim.kernels.units.parameters import NEAREST_EVEN, TO_ODD, Round


@intrinsic
def bits64(_typingctx: Any, value: Any) -> Any:
    """The bits of a float64 as an int64."""
    if value != types.float64:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def float64_of(_typingctx: Any, bits: Any) -> Any:
    """The float64 whose bits are an int64."""
    if bits != types.int64:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def bit_length(_typingctx: Any, value: Any) -> Any:
    """Bits of a uint64: 0 for 0, as int64."""
    if value != types.uint64:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(ir.IntType(64), 64), zeros)

    return types.int64(types.uint64), codegen


@njit
def power(e: int) -> Any:
    """2^e, -1022 <= e <= 1023."""
    return float64_of(np.int64((np.int64(e) + 1023) << 52))


@njit
def rounded(negative: bool, magnitude: np.uint64, q: int, to: Round) -> Any:
    """+-magnitude * 2^q rounded; what underflows to zero keeps its sign. magnitude < 2^63."""
    if magnitude == np.uint64(0):
        return 0.0
    quantum = max(bit_length(magnitude) - 1 + q, to.emin) - to.mbits
    shift = quantum - q
    if shift <= 0:
        value = np.float64(magnitude) * power(q)
    else:
        units = np.uint64(0)
        if shift <= 63:
            units = magnitude >> np.uint64(shift)
            rest = magnitude - (units << np.uint64(shift))
            if to.mode == NEAREST_EVEN:
                half = np.uint64(1) << np.uint64(shift - 1)
                if rest > half or (rest == half and (units & np.uint64(1)) == np.uint64(1)):
                    units += np.uint64(1)
            elif to.mode == TO_ODD and rest != np.uint64(0):
                units |= np.uint64(1)
        elif to.mode == TO_ODD:
            units = np.uint64(1)
        value = np.float64(units) * power(quantum)
    if value >= power(to.emax + 1):
        value = math.inf
    elif to.flush and value < power(to.emin):
        value = 0.0
    return -value if negative else value


@njit
def narrowed(x: float, to: Round) -> Any:
    """A float64 rounded; zeros, Inf and NaN as they are."""
    if x == 0.0 or not math.isfinite(x):
        return x
    bits = bits64(x)
    magnitude = np.uint64((bits & ((1 << 52) - 1)) | (1 << 52))
    return rounded(x < 0.0, magnitude, ((bits >> 52) & 0x7FF) - 1075, to)


@njit
def sum_to_odd(x: float, y: float) -> Any:
    """x + y rounded to odd: the exact sum, or the neighbour whose last bit is 1. Zeros, Inf and NaN as in IEEE 754."""
    s = x + y
    if math.isfinite(s):
        back = s - x
        error = (x - (s - back)) + (y - back)
        if error != 0.0:
            bits = bits64(s)
            if bits & 1 == 0:
                bits += 1 if (error > 0.0) == (s > 0.0) else -1
                s = float64_of(bits)
    return s
