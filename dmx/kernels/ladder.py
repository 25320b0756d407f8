"""What a search does with an operand's values in several formats: keep them in half the memory, and mix them.

Values are (n,) float32, or the upper halves of their bits (bfloat16): all of a ladder alike. Results depend on no number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

from mxsim.kernels.bits import float_bits

#: Elements that are worked on at once: few enough to stay in the nearest cache from one step of the ladder to the next.
CHUNK = 1 << 12

Values = tuple[npt.NDArray[np.uint16], ...] | tuple[npt.NDArray[np.float32], ...]


@intrinsic
def widened(_typingctx: Any, value: Any) -> Any:
    """The float32 of a bfloat16's bits, or of a float32."""
    if value == types.float32:
        return types.float32(value), lambda _context, _builder, _signature, args: args[0]
    if value != types.uint16:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], word), word(16)), ir.FloatType())

    return types.float32(value), codegen


@intrinsic
def fused(_typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c of float32, rounded once."""
    if (a, b, c) != (types.float32,) * 3:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(a, b, c), codegen


@njit(parallel=True, cache=True, error_model="numpy")
def mix(values: Values, degrees: npt.NDArray[np.float32], place: int, out: npt.NDArray[np.float32]) -> None:
    """(n,) values at a place on the ladder and, from there, shares of the steps above it: the bits of torch's operations.

    The first step's share is reckoned from its nearer end, as torch.lerp does. A step of degree 0 is left out. Args: degrees:
    (formats - 1,), below 1 from place on.
    """
    for chunk in prange((out.size + CHUNK - 1) // CHUNK):
        piece = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        target, low = out[piece], values[place][piece]  # pieces of their own: only then are the loops vector code
        if place == degrees.size or degrees[place] == 0:
            for i in range(target.size):
                target[i] = widened(low[i])
        else:
            high, upper = values[place + 1][piece], degrees[place] >= np.float32(0.5)
            weight = degrees[place] - np.float32(1) if upper else degrees[place]
            for i in range(target.size):
                start, end = widened(low[i]), widened(high[i])
                target[i] = fused(weight, end - start, end if upper else start)
        for step in range(place + 1, degrees.size):
            degree, below, above = degrees[step], values[step][piece], values[step + 1][piece]
            if degree != 0:
                for i in range(target.size):
                    target[i] = (widened(above[i]) - widened(below[i])) * degree + target[i]


@njit(cache=True)
def narrow(values: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> bool:
    """The upper halves of (n,) float32; whether the lower ones are all zero, so that these are the same numbers."""
    lost = np.int32(0)
    for i in range(out.size):
        bits = float_bits(values[i])
        lost |= bits & np.int32(0xFFFF)
        out[i] = np.uint16((bits >> np.int32(16)) & np.int32(0xFFFF))
    return bool(lost == 0)
