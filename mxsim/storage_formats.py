"""What a tensor costs to store and move: the plain types beside the block formats, scales and padding counted."""

from __future__ import annotations

from dataclasses import dataclass

from mxsim.errors import MxsimError
from mxsim.formats import FORMATS, BlockFormat
from mxsim.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFormat:
    """Bits an element takes, the scale its block shares, and a tensor's own scale."""

    name: str
    element_bits: int
    block_size: int = 1  #: elements to a scale, along K
    scale_bits: int = 0  #: a block's scale
    tensor_scale_bits: int = 0  #: once a tensor
    source: str

    @property
    def bits_per_element(self) -> float:
        """Bits an element takes with its share of the block's scale, where blocks are full."""
        return self.element_bits + self.scale_bits / self.block_size

    def row_bits(self, k: int) -> int:
        """Bits of one row of k elements: the last block is padded to its full size, as the matrix units load it."""
        return -(-k // self.block_size) * (self.block_size * self.element_bits + self.scale_bits)

    def matrix_bytes(self, rows: float, k: int) -> float:
        """Bytes of a (rows, k) matrix blocked along k. Exact; whole where rows is, up to a last half-filled byte."""
        return (rows * self.row_bits(k) + self.tensor_scale_bits) / 8

    @classmethod
    def of_block_format(cls, block_format: BlockFormat) -> StorageFormat:
        return cls(
            name=block_format.name,
            element_bits=block_format.element.bits,
            block_size=block_format.block_size,
            scale_bits=block_format.scale.bits,
            tensor_scale_bits=32 if block_format.tensor_scale else 0,
            source=block_format.source,
        )


#: The plain types carry no scale of their own: one a tensor or channel is below a thousandth of the bytes.
STORAGE_FORMATS: Registry[StorageFormat] = Registry(
    "format",
    [
        StorageFormat(name="bf16", element_bits=16, source="bfloat16: 8 exponent bits, 7 fraction bits"),
        StorageFormat(name="fp16", element_bits=16, source="IEEE 754-2019, binary16"),
        StorageFormat(name="fp8_e4m3", element_bits=8, source="OFP8 v1.0"),
        StorageFormat(name="int8", element_bits=8, source="two's complement, symmetric"),
        StorageFormat(name="int4", element_bits=4, source="two's complement, symmetric"),
        *(StorageFormat.of_block_format(block_format) for block_format in FORMATS.values()),
    ],
)

#: What weights, activations and the KV cache are where nothing else is said.
WIDE = "bf16"


@dataclass(frozen=True, slots=True, order=True)
class FormatPair:
    """The formats of a linear's two operands."""

    weight: str
    activation: str

    def __post_init__(self) -> None:
        for name in (self.weight, self.activation):
            STORAGE_FORMATS[name]

    @classmethod
    def parse(cls, text: str) -> FormatPair:
        """From "W" (both operands), or "W:A"; "W:bf16" leaves the activations alone. Unknown names: UnknownNameError."""
        if not isinstance(text, str):
            raise MxsimError(f"format pair {text!r} is no string such as 'mxfp8_e4m3' or 'mxfp4_e2m1:mxfp8_e4m3'")
        weight, colon, activation = text.partition(":")
        if not weight or (colon and not activation) or ":" in activation:
            raise MxsimError(f"format pair {text!r} is not WEIGHT or WEIGHT:ACTIVATION, such as mxfp4_e2m1:mxfp8_e4m3")
        return cls(weight, activation or weight)

    def __str__(self) -> str:
        return f"{self.weight}:{self.activation}"


WIDE_PAIR = FormatPair(WIDE, WIDE)
