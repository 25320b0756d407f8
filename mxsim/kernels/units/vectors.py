"""Short vectors inside compiled loops: a fixed number of lanes of one type, as LLVM has them.

A loop that the compiler vectorises on its own is a matter of luck; here each operation is one LLVM instruction on a whole vector, which
every processor's backend splits into the registers it has. Nothing rounds but float arithmetic and narrowing, to nearest even.

    v = load16(array, first)     16 elements of a C-contiguous array from flat index `first`; store(array, first, v) is its reverse
    each8(array, index)          the element at flat index, in every lane
    v + w, v * 2, v & mask       lane by lane; a scalar is cast to the vector's type and stands in every lane
    v < w                        lanes of bool, for where(mask, v, w) and any_lane(mask)
    to(v, np.int32)              converted: from floats toward zero
    seen_as(v, np.int32)         the same bits under a type of the same width
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model


class Vector(types.Type):  # type: ignore[misc]  # numba is untyped here
    """`lanes` values of a numba number type."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


def llvm_of(dtype: Any) -> Any:
    """The LLVM type of a lane."""
    if dtype == types.boolean:
        return ir.IntType(1)
    if dtype == types.float32:
        return ir.FloatType()
    return ir.DoubleType() if dtype == types.float64 else ir.IntType(dtype.bitwidth)


def llvm_vector(vector: Any) -> Any:
    return ir.VectorType(llvm_of(vector.dtype), vector.lanes)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, llvm_vector(fe_type))


def is_float(vector: Any) -> bool:
    return isinstance(vector.dtype, types.Float)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """The scalar in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def call_llvm(builder: Any, name: str, vector: Any, *args: Any) -> Any:
    """LLVM's function of that name for this vector type."""
    kind = llvm_vector(vector)
    element = f"f{32 if vector.dtype == types.float32 else 64}" if is_float(vector) else f"i{vector.dtype.bitwidth}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [a.type for a in args]), f"llvm.{name}.v{vector.lanes}{element}"
    )
    return builder.call(function, args)


def element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, lanes: int) -> Any:
    """Where `lanes` elements from a flat index stand."""
    data = context.make_array(array_type)(context, builder, array).data
    start = builder.gep(data, [index])
    return builder.bitcast(start, ir.VectorType(llvm_of(array_type.dtype), lanes).as_pointer())


def loader(lanes: int) -> Any:
    @intrinsic
    def load(_typingctx: Any, array: Any, index: Any) -> Any:
        if not isinstance(array, types.Array) or array.layout != "C":
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.load(element_pointer(context, builder, sig.args[0], args[0], args[1], lanes), align=1)

        return Vector(array.dtype, lanes)(array, types.intp), codegen

    return load


def repeater(lanes: int) -> Any:
    @intrinsic
    def each(_typingctx: Any, array: Any, index: Any) -> Any:
        if not isinstance(array, types.Array) or array.layout != "C":
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            return splat(builder, builder.load(builder.gep(data, [args[1]])), lanes)

        return Vector(array.dtype, lanes)(array, types.intp), codegen

    return each


@intrinsic
def load_line(_typingctx: Any, array: Any, index: Any) -> Any:
    """64 bytes of elements: 16 float32 or 8 float64."""
    if not isinstance(array, types.Array) or array.layout != "C":
        return None
    lanes = 512 // array.dtype.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(element_pointer(context, builder, sig.args[0], args[0], args[1], lanes), align=1)

    return Vector(array.dtype, lanes)(array, types.intp), codegen


@intrinsic
def load_as(_typingctx: Any, array: Any, index: Any, like: Any) -> Any:
    """As many elements as `like` has lanes."""
    if not isinstance(array, types.Array) or array.layout != "C" or not isinstance(like, Vector):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(element_pointer(context, builder, sig.args[0], args[0], args[1], like.lanes), align=1)

    return Vector(array.dtype, like.lanes)(array, types.intp, like), codegen


@intrinsic
def each_as(_typingctx: Any, array: Any, index: Any, like: Any) -> Any:
    """The element at a flat index, in as many lanes as `like` has."""
    if not isinstance(array, types.Array) or array.layout != "C" or not isinstance(like, Vector):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return splat(builder, builder.load(builder.gep(data, [args[1]])), like.lanes)

    return Vector(array.dtype, like.lanes)(array, types.intp, like), codegen


def splatter(lanes: int) -> Any:
    @intrinsic
    def fill(_typingctx: Any, scalar: Any) -> Any:
        if not isinstance(scalar, types.Number):
            return None

        def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
            return splat(builder, args[0], lanes)

        return Vector(scalar, lanes)(scalar), codegen

    return fill


load8, load16, load32 = loader(8), loader(16), loader(32)
each8, each16, each32 = repeater(8), repeater(16), repeater(32)
fill8 = splatter(8)


@intrinsic
def store(_typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    if not isinstance(array, types.Array) or array.layout != "C" or not isinstance(vector, Vector) or array.dtype != vector.dtype:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], element_pointer(context, builder, sig.args[0], args[0], args[1], sig.args[2].lanes), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def to(_typingctx: Any, vector: Any, dtype: Any) -> Any:
    if not isinstance(vector, Vector) or not isinstance(dtype, types.NumberClass):
        return None
    result = Vector(dtype.instance_type, vector.lanes)

    def codegen(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, kind = sig.args[0], llvm_vector(result)
        if source == result:
            return args[0]
        if is_float(source) and is_float(result):
            wider = result.dtype.bitwidth > source.dtype.bitwidth
            return (builder.fpext if wider else builder.fptrunc)(args[0], kind)
        if is_float(source):
            return builder.fptosi(args[0], kind)
        if is_float(result):
            return builder.sitofp(args[0], kind)
        wider = result.dtype.bitwidth > source.dtype.bitwidth
        return (builder.sext if wider else builder.trunc)(args[0], kind)

    return result(vector, dtype), codegen


@intrinsic
def seen_as(_typingctx: Any, vector: Any, dtype: Any) -> Any:
    if not isinstance(vector, Vector) or not isinstance(dtype, types.NumberClass):
        return None
    result = Vector(dtype.instance_type, vector.lanes)

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], llvm_vector(result))

    return result(vector, dtype), codegen


@intrinsic
def where(_typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    if not all(isinstance(v, Vector) for v in (mask, yes, no)) or yes != no or mask.dtype != types.boolean:
        return None
    return yes(mask, yes, no), lambda _context, builder, _sig, args: builder.select(*args)


@intrinsic
def any_lane(_typingctx: Any, mask: Any) -> Any:
    if not isinstance(mask, Vector) or mask.dtype != types.boolean:
        return None

    def codegen(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = builder.bitcast(args[0], ir.IntType(sig.args[0].lanes))
        return builder.icmp_unsigned("!=", word, word.type(0))

    return types.boolean(mask), codegen


@intrinsic
def larger(_typingctx: Any, v: Any, w: Any) -> Any:
    """The larger of two signed integers, lane by lane."""
    if not isinstance(v, Vector) or v != w or is_float(v):
        return None
    return v(v, w), lambda _context, builder, sig, args: builder.select(builder.icmp_signed(">", *args), *args)


@intrinsic
def fused(_typingctx: Any, v: Any, w: Any, addend: Any) -> Any:
    """v*w + addend, rounded once."""
    if not isinstance(v, Vector) or not v == w == addend or not is_float(v):
        return None
    return v(v, w, addend), lambda _context, builder, sig, args: call_llvm(builder, "fma", sig.args[0], *args)


@intrinsic
def floored(_typingctx: Any, v: Any) -> Any:
    """The largest integer not above, of floats."""
    if not isinstance(v, Vector) or not is_float(v):
        return None
    return v(v), lambda _context, builder, sig, args: call_llvm(builder, "floor", sig.args[0], *args)


#: an operator's LLVM instruction for integers and for floats
ARITHMETIC: dict[Callable[..., Any], tuple[str, str | None]] = {
    operator.add: ("add", "fadd"),
    operator.sub: ("sub", "fsub"),
    operator.mul: ("mul", "fmul"),
    operator.and_: ("and_", None),
    operator.or_: ("or_", None),
    operator.xor: ("xor", None),
    operator.lshift: ("shl", None),
    operator.rshift: ("ashr", None),
}
COMPARISONS = {operator.lt: "<", operator.gt: ">", operator.eq: "==", operator.ne: "!="}


def operands(context: Any, builder: Any, vector: Any, types_: Any, args: Any) -> list[Any]:
    """Both operands as vectors: a scalar is cast and spread."""
    return [
        a if isinstance(t, Vector) else splat(builder, context.cast(builder, a, t, vector.dtype), vector.lanes)
        for t, a in zip(types_, args, strict=True)
    ]


def typed(args: Any, result: Callable[[Any], Any]) -> Any:
    """The signature of an operator on two vectors of one type, or on a vector and a number; None for anything else."""
    vectors = [a for a in args if isinstance(a, Vector)]
    if len(args) != 2 or not vectors or any(v != vectors[0] for v in vectors):
        return None
    if not all(isinstance(a, Vector | types.Number) for a in args):
        return None
    return signature(result(vectors[0]), *args)


def define_arithmetic(operation: Callable[..., Any], integer: str, floating: str | None) -> None:
    class Typing(AbstractTemplate):  # type: ignore[misc]
        key = operation

        def generic(self, args: Any, kws: Any) -> Any:
            return typed(args, lambda vector: vector)

    infer_global(operation)(Typing)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = sig.return_type
        name = floating if is_float(vector) else integer
        return getattr(builder, str(name))(*operands(context, builder, vector, sig.args, args))

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, *pair)(lower)


def define_comparison(operation: Callable[..., Any], symbol: str) -> None:
    class Typing(AbstractTemplate):  # type: ignore[misc]
        key = operation

        def generic(self, args: Any, kws: Any) -> Any:
            return typed(args, lambda vector: Vector(types.boolean, vector.lanes))

    infer_global(operation)(Typing)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = next(t for t in sig.args if isinstance(t, Vector))
        compare = builder.fcmp_ordered if is_float(vector) else builder.icmp_signed
        return compare(symbol, *operands(context, builder, vector, sig.args, args))

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, *pair)(lower)


for operation_, (integer_, floating_) in ARITHMETIC.items():
    define_arithmetic(operation_, integer_, floating_)
for operation_, symbol_ in COMPARISONS.items():
    define_comparison(operation_, symbol_)
