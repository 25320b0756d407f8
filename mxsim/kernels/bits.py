"""Reading a float32's bits and back, inside compiled loops."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def float_bits(_typingctx: Any, value: Any) -> Any:
    """The bits of a float32 as an int32."""
    if value != types.float32:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def bits_float(_typingctx: Any, bits: Any) -> Any:
    """The float32 whose bits are the low 32 of an integer."""
    if not isinstance(bits, types.Integer):
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = args[0] if args[0].type.width == 32 else builder.trunc(args[0], ir.IntType(32))
        return builder.bitcast(word, ir.FloatType())

    return types.float32(bits), codegen


@intrinsic
def shift_right(_typingctx: Any, word: Any, count: Any) -> Any:
    """An int32 shifted right arithmetically by 0 to 31, in 32 bits: numba's own >> widens to 64 and halves the vector lanes."""
    if word != types.int32 or count != types.int32:
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ashr(args[0], args[1])

    return types.int32(types.int32, types.int32), codegen
