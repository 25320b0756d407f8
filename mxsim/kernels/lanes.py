"""Blocks of 16, and of 32 or multiples of it, as vectors written out: loops so short the compiler turns into vector code at half the speed.

Each function takes C-contiguous arrays (n, 16) or (n, 32) and a row's number, and computes what the loops of mxsim.kernels.conversion and
the functions of mxsim.kernels.rounding compute under nearest even: operation by operation, or, "in place", without going to units of the
scale and back, which a power of two far from the ends of float32 does not change.

A result that no cache will hold is better streamed: written past the caches, so that its memory is not read first. Such stores are not
ordered with others: whoever streams ends with `fence`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from mxsim.kernels.parameters import KEEP, MINUS

INT8, INT32, FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()
SIGN, MAGNITUDE, EXPONENT = -(1 << 31), 0x7FFFFFFF, 0x7F800000
LINE = 4  #: lanes streamed by one store
STREAM_ALIGNMENT = 4 * LINE  #: bytes
TOGETHER = 16  #: blocks whose largest magnitudes are found at once


class _Vectors:
    """Vectors of 32-bit lanes, in the making of one function's code."""

    def __init__(self, lanes: int, context: Any, builder: Any, signature: Any) -> None:
        self.lanes, self.context, self.builder, self.signature = lanes, context, builder, signature
        self.ints, self.floats = ir.VectorType(INT32, lanes), ir.VectorType(FLOAT, lanes)

    def constant(self, value: int) -> ir.Constant:
        return ir.Constant(self.ints, [value] * self.lanes)

    def spread(self, value: Any) -> Any:
        """A scalar in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        return self.builder.shuffle_vector(self.builder.insert_element(undefined, value, INT32(0)), undefined, self.constant(0))

    def part(self, vector: Any, first: int, count: int) -> Any:
        """Some lanes side by side."""
        chosen = ir.Constant(ir.VectorType(INT32, count), list(range(first, first + count)))
        return self.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), chosen)

    def place(self, argument: int, array: Any, element: Any, vector: Any) -> Any:
        """Where an element of an array, an argument of the function, lies: as a pointer to a vector."""
        data = self.context.make_array(self.signature.args[argument])(self.context, self.builder, array).data
        return self.builder.bitcast(self.builder.gep(data, [element]), vector.as_pointer())

    def block(self, argument: int, array: Any, block: Any, vector: Any) -> Any:
        """Where a block starts."""
        return self.place(argument, array, self.builder.mul(block, ir.Constant(block.type, self.lanes)), vector)

    def load(self, place: Any) -> Any:
        """float32 from memory, as the int32 of their bits."""
        loaded = self.builder.load(place)
        loaded.align = 4
        return loaded

    def largest(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def store(self, vector: Any, place: Any, stream: Any) -> None:
        """A vector of 32-bit lanes to memory, past the caches where `stream` is true."""
        builder = self.builder
        with builder.if_else(builder.trunc(stream, ir.IntType(1))) as (streamed, kept):
            with streamed:
                past_caches = builder.module.add_metadata([INT32(1)])
                first = builder.bitcast(place, ir.VectorType(INT32, LINE).as_pointer())
                for line in range(self.lanes // LINE):
                    stored = builder.store(self.part(vector, line * LINE, LINE), builder.gep(first, [INT32(line)]))
                    stored.align = STREAM_ALIGNMENT
                    stored.set_metadata("nontemporal", past_caches)
            with kept:
                builder.store(vector, place).align = 4


class _Block(_Vectors):
    """A finite block in the making: its magnitudes, after `scaled` or `in_place` rounded as an ElementGrid says in units of the scale."""

    def __init__(self, lanes: int, context: Any, builder: Any, signature: Any, args: Any, fixed_point: bool | None = None) -> None:
        """fixed_point: the grid's, where code is made for that alone."""
        super().__init__(lanes, context, builder, signature)
        self.fixed_point = fixed_point
        source, _, self.index = args[:3]
        self.grid, self.grid_fields = args[-1], signature.args[-1].fields
        self.bits = self.load(self.block(0, source, self.index, self.ints))
        self.absolute = builder.bitcast(builder.and_(self.bits, self.constant(MAGNITUDE)), self.floats)
        #: -1 where x is negative, else 0
        self.sign = builder.ashr(self.bits, self.constant(31))

    def scaled(self, factor: Any, multiply: bool) -> None:
        """|x| times or over a factor."""
        magnitude = (self.builder.fmul if multiply else self.builder.fdiv)(self.absolute, self.spread(factor))
        self._round(magnitude, self.field("max_value"), self.field("emin_bits"))

    def in_place(self, exponent: Any) -> None:
        """|x| as it is, where the scale is a power of two: instead the grid is scaled, which is exact. exponent: the scale's, << 23."""
        builder = self.builder
        most = builder.add(builder.bitcast(self.field("max_value"), INT32), exponent)
        self._round(self.absolute, builder.bitcast(most, FLOAT), builder.add(self.field("emin_bits"), exponent))

    def _round(self, magnitude: Any, most: Any, emin_bits: Any) -> None:
        builder, most, self.emin = self.builder, self.spread(most), self.spread(emin_bits)
        #: no larger than the largest number: see clamped
        self.magnitude = builder.select(builder.fcmp_ordered("<", magnitude, most), magnitude, most)
        exponent = builder.and_(builder.bitcast(self.magnitude, self.ints), self.constant(EXPONENT))
        #: float32 bits of a power of two, and of the number whose ulp is the quantum there: see steps
        self.binade = self.emin if self.fixed_point else self.largest(exponent, self.emin)
        self.magic = builder.add(self.binade, self.spread(self.field("magic_bits")))
        self.raised = builder.fadd(self.magnitude, builder.bitcast(self.magic, self.floats))

    def value(self) -> Any:
        """What a magnitude is rounded to."""
        return self.builder.fsub(self.raised, self.builder.bitcast(self.magic, self.floats))

    def plainly_signed(self, value: Any) -> Any:
        """The bits of a value with the sign of x, where signs of zeros follow no rule."""
        builder = self.builder
        signed = builder.or_(builder.bitcast(value, self.ints), builder.and_(self.bits, self.constant(SIGN)))
        # A format without -0 has +0: adding +0 turns one into the other, and adding -0 changes nothing.
        zero = builder.select(self.field("fixed_point"), FLOAT(0.0), FLOAT(-0.0))
        return builder.bitcast(builder.fadd(builder.bitcast(signed, self.floats), self.spread(zero)), self.ints)

    def code(self) -> Any:
        """Of a magnitude: see code_of."""
        count = self.builder.sub(self.builder.bitcast(self.raised, self.ints), self.magic)
        above = self.builder.sub(self.binade, self.emin)
        return self.builder.add(count, self.builder.ashr(above, self.spread(self.field("shift"))))

    def store_code(self, code: Any, sign: Any, target: Any) -> None:
        """A magnitude's code with a sign, -1 or 0."""
        builder, fixed_point = self.builder, self.field("fixed_point")
        negated = builder.and_(sign, self.spread(self.where(fixed_point, -1)))
        twos_complement = builder.sub(builder.xor(code, negated), negated)
        mask = builder.select(fixed_point, INT32(0), self.field("sign_mask"))
        signed = builder.or_(twos_complement, builder.and_(sign, self.spread(mask)))
        stored = builder.trunc(signed, ir.VectorType(INT8, self.lanes))
        builder.store(stored, self.block(1, target, self.index, stored.type)).align = 1

    def field(self, name: str) -> Any:
        """A field of the ElementGrid."""
        if name == "fixed_point" and self.fixed_point is not None:
            return ir.Constant(ir.IntType(1), self.fixed_point)
        return self.builder.extract_value(self.grid, self.grid_fields.index(name))

    def where(self, condition: Any, value: int) -> Any:
        """A scalar: the value where the condition holds, else 0."""
        return self.builder.select(condition, INT32(value), INT32(0))

    def smallest(self) -> Any:
        """A scalar: the smallest number above zero, the quantum at emin."""
        finest = self.builder.shl(self.builder.sub(INT32(23), self.field("shift")), INT32(23))
        return self.builder.bitcast(self.builder.sub(self.field("emin_bits"), finest), FLOAT)

    def at_slip(self) -> Any:
        """Where a magnitude is the one that slips up: see ElementGrid."""
        slip = self.field("slip")
        given = self.builder.select(self.builder.fcmp_ordered(">", slip, FLOAT(0.0)), slip, FLOAT(-1.0))
        return self.builder.fcmp_ordered("==", self.magnitude, self.spread(given))

    def sign_where(self, zero: Any) -> Any:
        """-1 where the result is negative, given where it is zero: see sign_of."""
        builder = self.builder
        floating = builder.not_(self.field("fixed_point"))

        def ruled(name: str) -> Any:
            rule = self.field(name)
            keep, minus = (builder.and_(builder.icmp_signed("==", rule, INT32(which)), floating) for which in (KEEP, MINUS))
            return builder.or_(builder.and_(self.sign, self.spread(self.where(keep, -1))), self.spread(self.where(minus, -1)))

        is_zero_input = builder.fcmp_ordered("<=", self.magnitude, self.spread(self.field("underflow")))
        of_zero = builder.select(is_zero_input, ruled("zero_sign"), ruled("underflow_sign"))
        return builder.select(zero, of_zero, self.sign)


def _branches(builder: Any, conditions: Sequence[Any], make: Callable[..., None], *chosen: bool) -> None:
    """Code for every truth of the conditions: make is given True or False for each."""
    if not conditions:
        make(*chosen)
        return
    with builder.if_else(conditions[0]) as (where_true, where_false):
        with where_true:
            _branches(builder, conditions[1:], make, *chosen, True)
        with where_false:
            _branches(builder, conditions[1:], make, *chosen, False)


def _is_wide(context: Any, builder: Any, signature: Any, x: Any) -> Any:
    """Whether blocks, the rows of the function's first argument, are of 32; else they are of 16."""
    size = builder.extract_value(context.make_array(signature.args[0])(context, builder, x).shape, 1)
    return builder.icmp_signed("==", size, ir.Constant(size.type, 32))


def _is_fixed_point(builder: Any, signature: Any, args: Any) -> Any:
    """Whether an ElementGrid, the function's last argument, is of fixed point."""
    return builder.extract_value(args[-1], signature.args[-1].fields.index("fixed_point"))


@intrinsic
def largest_bits(_typingctx: Any, x: Any, block: Any, amaxes: Any, at: Any) -> Any:
    """amax_bits of TOGETHER blocks from `block` on, into amaxes[at:], int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, block, amaxes, at = args
        vectors = _Vectors(TOGETHER, context, builder, signature)

        def halved(a: Any, b: Any) -> Any:
            """The larger of each two neighbours in a, then in b."""
            evens, odds = (ir.Constant(vectors.ints, list(range(start, 2 * TOGETHER, 2))) for start in (0, 1))
            return vectors.largest(builder.shuffle_vector(a, b, evens), builder.shuffle_vector(a, b, odds))

        def make(wide: bool) -> None:
            lanes = 32 if wide else 16
            first = builder.mul(block, ir.Constant(block.type, lanes))

            def magnitudes(lane: int) -> Any:
                place = vectors.place(0, x, builder.add(first, ir.Constant(first.type, lane)), vectors.ints)
                return builder.and_(vectors.load(place), vectors.constant(MAGNITUDE))

            found = []
            for lane in range(0, TOGETHER * lanes, lanes):
                pieces = [magnitudes(lane + piece) for piece in range(0, lanes, TOGETHER)]
                found.append(reduce(vectors.largest, pieces))
            while len(found) > 1:
                found = [halved(a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
            builder.store(found[0], vectors.place(2, amaxes, at, vectors.ints)).align = 4

        _branches(builder, [_is_wide(context, builder, signature, x)], make)
        return context.get_dummy_value()

    return types.void(x, types.intp, amaxes, types.intp), codegen


@intrinsic
def store_values(
    _typingctx: Any, x: Any, y: Any, block: Any, factor: Any, multiply: Any, scale: Any, stream: Any, plain: Any, grid: Any
) -> Any:
    """looped_values of a block. plain: see is_plain; a constant where this is called."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, _, factor, multiply, scale, stream, plain, _ = args

        def make(wide: bool, multiply: bool, plain: bool) -> None:
            made = _Block(32 if wide else 16, context, builder, signature, args)
            made.scaled(factor, multiply)
            value = builder.fmul(made.value(), made.spread(scale))
            if plain:
                signed = made.plainly_signed(value)
            else:
                value = builder.select(made.at_slip(), made.spread(builder.fmul(made.smallest(), scale)), value)
                is_zero = builder.fcmp_ordered("==", value, ir.Constant(made.floats, [0.0] * made.lanes))
                signed = builder.or_(builder.bitcast(value, made.ints), builder.and_(made.sign_where(is_zero), made.constant(SIGN)))
            made.store(signed, made.block(1, target, made.index, made.ints), stream)

        _branches(builder, [_is_wide(context, builder, signature, source), multiply, plain], make)
        return context.get_dummy_value()

    single, flag = types.float32, types.boolean
    return types.void(x, y, types.intp, single, flag, single, flag, flag, grid), codegen


@intrinsic
def store_codes(_typingctx: Any, x: Any, codes: Any, block: Any, factor: Any, multiply: Any, plain: Any, grid: Any) -> Any:
    """looped_codes of a block. plain: see is_plain; a constant where this is called."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, _, factor, multiply, plain, _ = args

        def make(wide: bool, multiply: bool, plain: bool) -> None:
            made = _Block(32 if wide else 16, context, builder, signature, args)
            made.scaled(factor, multiply)
            code, sign = made.code(), made.sign
            if not plain:
                code = builder.select(made.at_slip(), made.constant(1), code)
                sign = made.sign_where(builder.icmp_signed("==", code, made.constant(0)))
            made.store_code(code, sign, target)

        _branches(builder, [_is_wide(context, builder, signature, source), multiply, plain], make)
        return context.get_dummy_value()

    return types.void(x, codes, types.intp, types.float32, types.boolean, types.boolean, grid), codegen


@intrinsic
def store_values_in_place(_typingctx: Any, x: Any, y: Any, block: Any, exponent: Any, stream: Any, grid: Any) -> Any:
    """looped_values of a block under a plain policy and a steady scale, whose exponent is given << 23: see BlockScaling."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, _, exponent, stream, _ = args

        def make(wide: bool, fixed_point: bool) -> None:
            made = _Block(32 if wide else 16, context, builder, signature, args, fixed_point)
            made.in_place(exponent)
            made.store(made.plainly_signed(made.value()), made.block(1, target, made.index, made.ints), stream)

        _branches(builder, [_is_wide(context, builder, signature, source), _is_fixed_point(builder, signature, args)], make)
        return context.get_dummy_value()

    return types.void(x, y, types.intp, types.int32, types.boolean, grid), codegen


@intrinsic
def store_codes_in_place(_typingctx: Any, x: Any, codes: Any, block: Any, exponent: Any, grid: Any) -> Any:
    """looped_codes of such a block."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, _, exponent, _ = args

        def make(wide: bool, fixed_point: bool) -> None:
            made = _Block(32 if wide else 16, context, builder, signature, args, fixed_point)
            made.in_place(exponent)
            made.store_code(made.code(), made.sign, target)

        _branches(builder, [_is_wide(context, builder, signature, source), _is_fixed_point(builder, signature, args)], make)
        return context.get_dummy_value()

    return types.void(x, codes, types.intp, types.int32, grid), codegen


@intrinsic
def prefetch(_typingctx: Any, x: Any, element: Any) -> Any:
    """Have 32 elements brought into the caches. They need not exist."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, element = args
        vectors, byte = _Vectors(LINE, context, builder, signature), INT8.as_pointer()
        hint = builder.module.declare_intrinsic("llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32]))
        for cache_line in (0, 16):
            place = vectors.place(0, x, builder.add(element, ir.Constant(element.type, cache_line)), INT8)
            builder.call(hint, [place, INT32(0), INT32(3), INT32(1)])  # to be read, into every cache, as data
        return context.get_dummy_value()

    return types.void(x, types.intp), codegen


@intrinsic
def fence(_typingctx: Any) -> Any:
    """Streamed stores are seen before whatever is stored after."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@njit(inline="always")
def pieces_of(block_size: int) -> int:
    """How many vectors make up a block, each of 32 or, for blocks of 16, of 16; 0 where vectors are not for the size."""
    if block_size == 16:
        return 1
    return block_size // 32 if block_size % 32 == 0 else 0
