"""How producers lay codes into bytes: rows of codes packed as mxsim.packing has it, and the layouts that differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mxsim.formats import ElementFormat
from mxsim.packing import Bytes, pack, packed_length, unpack
from mxsim.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """A way from rows of codes to rows of bytes, and back."""

    name: str
    pack: Callable[[Bytes, ElementFormat], Bytes]  #: codes (n, K) to bytes (n, width)
    unpack: Callable[[Bytes, ElementFormat, int], Bytes]  #: and back, given K
    width: Callable[[int, ElementFormat], int]  #: bytes of a row of K codes
    scale_codes: Callable[[Bytes], Bytes]  #: scale bytes as stored to E8M0 or E4M3 codes
    source: str


def pack_planes(codes: Bytes, element: ElementFormat) -> Bytes:
    """FP6 codes (n, K), K a multiple of 4, to (n, K * 3 / 4): for every four, a byte of their top two bits, the first of them lowest,
    then two bytes of their low four bits, the first of each pair in the high nibble."""
    quads = codes.reshape(len(codes), -1, 4)
    top, low = quads >> 4, quads & 0xF
    out = np.empty((*quads.shape[:2], 3), np.uint8)
    out[..., 0] = top[..., 0] | top[..., 1] << 2 | top[..., 2] << 4 | top[..., 3] << 6
    out[..., 1] = low[..., 0] << 4 | low[..., 1]
    out[..., 2] = low[..., 2] << 4 | low[..., 3]
    return out.reshape(len(codes), -1)


def unpack_planes(packed: Bytes, element: ElementFormat, length: int) -> Bytes:
    """The inverse of pack_planes."""
    triples = packed.reshape(len(packed), -1, 3)
    out = np.empty((*triples.shape[:2], 4), np.uint8)
    for i, (byte, shift) in enumerate(((1, 4), (1, 0), (2, 4), (2, 0))):
        out[..., i] = (triples[..., 0] >> 2 * i & 0x3) << 4 | triples[..., byte] >> shift & 0xF
    return out.reshape(len(packed), -1)[:, :length]


PACKINGS: Registry[Packing] = Registry(
    "packing",
    [
        Packing(
            name="row",
            pack=lambda codes, element: pack(codes, element),
            unpack=lambda packed, element, length: unpack(packed, element, length),
            width=lambda length, element: packed_length(length, element),
            scale_codes=lambda scales: scales,
            source="compressed-tensors, ModelOpt, Quark, AutoRound, gpt-oss, ONNX: low nibble first; FP6 an LSB-first bit stream",
        ),
        Packing(
            name="quark-legacy-planes",
            pack=pack_planes,
            unpack=unpack_planes,
            width=lambda length, element: -(-length // 4) * 3,
            scale_codes=lambda scales: scales + np.uint8(127),
            source='Quark\'s former dtype "mx": codes 1, 2, 3, 4 are the bytes 00 12 34; a scale byte is the signed, unbiased exponent',
        ),
    ],
)
