"""Blocks of 16 as vectors written out: a loop of 16 turns is too short for the compiler's own vector code, and runs at half the speed.

Each function takes C-contiguous arrays (n, 16) and a block's number, and computes what the loops of mxsim.kernels.conversion compute for a
floating element format under nearest even, operation by operation.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16

INT8, INT32, FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()
INTS, FLOATS = ir.VectorType(INT32, LANES), ir.VectorType(FLOAT, LANES)
SIGN, MAGNITUDE, EXPONENT = -(1 << 31), 0x7FFFFFFF, 0x7F800000


def _constant(value: int) -> ir.Constant:
    return ir.Constant(INTS, [value] * LANES)


def _spread(builder: Any, value: Any) -> Any:
    """A scalar in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, value, INT32(0)), undefined, _constant(0))


def _block(context: Any, builder: Any, array_type: Any, array: Any, block: Any, vector: Any) -> Any:
    """The place of a block, as a pointer to a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [builder.mul(block, ir.Constant(block.type, LANES))])
    return builder.bitcast(first, vector.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, block: Any) -> Any:
    """A block of float32 as the int32 of its bits."""
    loaded = builder.load(_block(context, builder, array_type, array, block, INTS))
    loaded.align = 4
    return loaded


def _largest(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _magnitude(builder: Any, bits: Any, factor: Any, multiply: Any, max_value: Any) -> Any:
    """|x| in units of the scale, no larger than max_value: see clamped."""
    magnitude = builder.bitcast(builder.and_(bits, _constant(MAGNITUDE)), FLOATS)
    factors, most = _spread(builder, factor), _spread(builder, max_value)
    wanted = builder.trunc(multiply, ir.IntType(1))
    scaled = builder.select(wanted, builder.fmul(magnitude, factors), builder.fdiv(magnitude, factors))
    return builder.select(builder.fcmp_ordered("<", scaled, most), scaled, most)


def _magic(builder: Any, magnitude: Any, emin_bits: Any, magic_bits: Any) -> tuple[Any, Any]:
    """The binade's bits, and those of the number whose ulp is its quantum: see steps."""
    exponent = builder.and_(builder.bitcast(magnitude, INTS), _constant(EXPONENT))
    binade = _largest(builder, exponent, _spread(builder, emin_bits))
    return binade, builder.add(binade, _spread(builder, magic_bits))


@intrinsic
def largest_bits(_typingctx: Any, x: Any, block: Any) -> Any:
    """amax_bits: float32 bits of the block's largest magnitude."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = builder.and_(_load(context, builder, signature.args[0], *args), _constant(MAGNITUDE))
        width = LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(lanes.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(lanes, undefined, ir.Constant(ir.VectorType(INT32, width), list(range(start, start + width))))
                for start in (0, width)
            ]
            lanes = _largest(builder, *halves)
        return builder.extract_element(lanes, INT32(0))

    return types.int32(x, types.intp), codegen


@intrinsic
def store_values(
    _typingctx: Any,
    x: Any,
    y: Any,
    block: Any,
    factor: Any,
    multiply: Any,
    scale: Any,
    max_value: Any,
    emin_bits: Any,
    magic_bits: Any,
) -> Any:
    """nearest_even_values for a floating element format."""
    single = types.float32
    arguments = (x, y, types.intp, single, types.boolean, single, single, types.int32, types.int32)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, block, factor, multiply, scale, max_value, emin_bits, magic_bits = args
        bits = _load(context, builder, signature.args[0], source, block)
        magnitude = _magnitude(builder, bits, factor, multiply, max_value)
        magic = builder.bitcast(_magic(builder, magnitude, emin_bits, magic_bits)[1], FLOATS)
        rounded = builder.fsub(builder.fadd(magnitude, magic), magic)
        value = builder.bitcast(builder.fmul(rounded, _spread(builder, scale)), INTS)
        signed = builder.or_(builder.and_(value, _constant(MAGNITUDE)), builder.and_(bits, _constant(SIGN)))
        builder.store(signed, _block(context, builder, signature.args[1], target, block, INTS)).align = 4
        return context.get_dummy_value()

    return types.void(*arguments), codegen


@intrinsic
def store_codes(
    _typingctx: Any,
    x: Any,
    codes: Any,
    block: Any,
    factor: Any,
    multiply: Any,
    max_value: Any,
    emin_bits: Any,
    magic_bits: Any,
    shift: Any,
    sign_mask: Any,
) -> Any:
    """nearest_even_codes for a floating element format."""
    single, whole = types.float32, types.int32
    arguments = (x, codes, types.intp, single, types.boolean, single, whole, whole, whole, whole)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, block, factor, multiply, max_value, emin_bits, magic_bits, shift, sign_mask = args
        bits = _load(context, builder, signature.args[0], source, block)
        magnitude = _magnitude(builder, bits, factor, multiply, max_value)
        binade, magic = _magic(builder, magnitude, emin_bits, magic_bits)
        count = builder.sub(builder.bitcast(builder.fadd(magnitude, builder.bitcast(magic, FLOATS)), INTS), magic)
        above = builder.ashr(builder.sub(binade, _spread(builder, emin_bits)), _spread(builder, shift))
        sign = builder.and_(builder.ashr(bits, _constant(31)), _spread(builder, sign_mask))
        code = builder.trunc(builder.or_(builder.add(count, above), sign), ir.VectorType(INT8, LANES))
        builder.store(code, _block(context, builder, signature.args[1], target, block, code.type)).align = 1
        return context.get_dummy_value()

    return types.void(*arguments), codegen
