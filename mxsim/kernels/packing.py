"""Element codes to packed bytes and back, over flat arrays whose ends are byte boundaries."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

CHUNK = 1 << 16  #: groups of codes to one unit of parallel work
LANES = 16  #: words packed at once


@njit(parallel=True, cache=True)
def all_bits(codes: npt.NDArray[np.uint8]) -> Any:
    """The bits that any of codes (n,) has."""
    chunks = (codes.size + CHUNK - 1) // CHUNK
    found = np.zeros(chunks, np.uint8)
    for chunk in prange(chunks):
        cs = codes[chunk * CHUNK : (chunk + 1) * CHUNK]
        bits = np.uint8(0)
        for i in range(cs.size):
            bits |= cs[i]
        found[chunk] = bits
    bits = np.uint8(0)
    for chunk in range(chunks):
        bits |= found[chunk]
    return bits


@njit(parallel=True, cache=True)
def pack_pairs(codes: npt.NDArray[np.uint16], out: npt.NDArray[np.uint8]) -> None:
    """codes (n,): two 4-bit codes in the low halves of a little-endian word's bytes. out (n,): the first in the low nibble."""
    for chunk in prange((codes.size + CHUNK - 1) // CHUNK):
        cs, ps = codes[chunk * CHUNK : (chunk + 1) * CHUNK], out[chunk * CHUNK : (chunk + 1) * CHUNK]
        for i in range(cs.size):
            ps[i] = np.uint8(np.uint16(cs[i] | np.uint16(cs[i] >> 4)))


@njit(parallel=True, cache=True)
def unpack_pairs(packed: npt.NDArray[np.uint8], out: npt.NDArray[np.uint16]) -> None:
    """The inverse of pack_pairs."""
    for chunk in prange((packed.size + CHUNK - 1) // CHUNK):
        ps, cs = packed[chunk * CHUNK : (chunk + 1) * CHUNK], out[chunk * CHUNK : (chunk + 1) * CHUNK]
        for i in range(ps.size):
            word = np.uint16(ps[i])
            cs[i] = np.uint16(np.uint16(word | np.uint16(word << 4)) & 0x0F0F)


@intrinsic
def _store_quads(_typingctx: Any, codes: Any, out: Any, word: Any) -> Any:
    """LANES words from `word` on: what pack_quads does to one, whose loop over three bytes the compiler leaves to scalars."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = ir.VectorType(ir.IntType(32), LANES)
        codes, out, first = args
        source = builder.gep(context.make_array(signature.args[0])(context, builder, codes).data, [first])
        loaded = builder.load(builder.bitcast(source, words.as_pointer()))
        loaded.align = 4

        def constant(value: int) -> ir.Constant:
            return ir.Constant(words, [value] * LANES)

        bits = [builder.and_(builder.lshr(loaded, constant(2 * code)), constant(0x3F << 6 * code)) for code in range(4)]
        triples = builder.bitcast(reduce(builder.or_, bits), ir.VectorType(ir.IntType(8), 4 * LANES))
        kept = ir.VectorType(ir.IntType(32), 3 * LANES)([4 * (i // 3) + i % 3 for i in range(3 * LANES)])
        packed = builder.shuffle_vector(triples, ir.Constant(triples.type, ir.Undefined), kept)
        start = builder.mul(first, ir.Constant(first.type, 3))
        target = builder.gep(context.make_array(signature.args[1])(context, builder, out).data, [start])
        builder.store(packed, builder.bitcast(target, packed.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(codes, out, types.intp), codegen


@njit(parallel=True, cache=True)
def pack_quads(codes: npt.NDArray[np.uint32], out: npt.NDArray[np.uint8]) -> None:
    """codes (n,): four 6-bit codes in the bytes of a little-endian word. out (n, 3): their bits, first code lowest."""
    for chunk in prange((codes.size + CHUNK - 1) // CHUNK):
        cs, ps = codes[chunk * CHUNK : (chunk + 1) * CHUNK], out[chunk * CHUNK : (chunk + 1) * CHUNK]
        whole = cs.size // LANES * LANES
        for i in range(0, whole, LANES):
            _store_quads(cs, ps, i)
        for i in range(whole, cs.size):
            word = cs[i]
            ps[i, 0] = (word & 0x3F) | ((word >> 2) & 0xC0)
            ps[i, 1] = ((word >> 10) & 0x0F) | ((word >> 12) & 0xF0)
            ps[i, 2] = ((word >> 20) & 0x03) | ((word >> 22) & 0xFC)


@njit(parallel=True, cache=True)
def unpack_quads(packed: npt.NDArray[np.uint8], out: npt.NDArray[np.uint32]) -> None:
    """The inverse of pack_quads."""
    for chunk in prange((out.size + CHUNK - 1) // CHUNK):
        ps, cs = packed[chunk * CHUNK : (chunk + 1) * CHUNK], out[chunk * CHUNK : (chunk + 1) * CHUNK]
        for i in range(cs.size):
            word = np.uint32(ps[i, 0]) | (np.uint32(ps[i, 1]) << 8) | (np.uint32(ps[i, 2]) << 16)
            cs[i] = (word & 0x3F) | ((word << 2) & 0x3F00) | ((word << 4) & 0x3F0000) | ((word << 6) & 0x3F000000)
