"""Element codes as a bit stream, one bit at a time: the stream's first bit is the first byte's lowest."""

from __future__ import annotations

from collections.abc import Sequence


def pack_row(codes: Sequence[int], bits: int) -> bytes:
    """Codes of `bits` bits, each lowest bit first, one after the other; the last byte is filled with zeros."""
    stream = [code >> place & 1 for code in codes for place in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return bytes(sum(stream[start + place] << place for place in range(8)) for start in range(0, len(stream), 8))


def unpack_row(packed: bytes, bits: int, count: int) -> list[int]:
    """The first `count` codes of a row."""
    stream = [byte >> place & 1 for byte in packed for place in range(8)]
    return [sum(stream[i * bits + place] << place for place in range(bits)) for i in range(count)]
