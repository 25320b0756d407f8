"""Element codes to packed bytes and back, over flat arrays whose ends are byte boundaries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange

CHUNK = 1 << 16  #: groups of codes to one unit of parallel work


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


@njit(parallel=True, cache=True)
def pack_quads(codes: npt.NDArray[np.uint32], out: npt.NDArray[np.uint8]) -> None:
    """codes (n,): four 6-bit codes in the bytes of a little-endian word. out (n, 3): their bits, first code lowest."""
    for chunk in prange((codes.size + CHUNK - 1) // CHUNK):
        cs, ps = codes[chunk * CHUNK : (chunk + 1) * CHUNK], out[chunk * CHUNK : (chunk + 1) * CHUNK]
        for i in range(cs.size):
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
