"""MXTensor: bits that know what they mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mxsim.formats import BlockFormat


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MXTensor:
    """A tensor in a block format: element codes, one scale a block, and which axis the blocks lie along.

    Made by mxsim.quantize and mxsim.from_codes. The arrays are held, not copied: treat them as read-only.
    """

    codes: npt.NDArray[np.uint8]  #: the tensor's shape; element bits as in OCP (int8: two's complement)
    scales: npt.NDArray[np.uint8]  #: the same shape with `axis` ceil(K / block_size); E8M0 codes (nvfp4: E4M3 codes)
    format: BlockFormat  #: its block_size is the one in use
    axis: int  #: 0 <= axis < ndim
    tensor_scale: np.float32 | None = None  #: nvfp4 only: what multiplies the block scales
    tensor_divisor: np.float32 | None = None  #: nvfp4 of a producer that stores a divisor: it divides them, and tensor_scale is 1 over it

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def ndim(self) -> int:
        return self.codes.ndim

    @property
    def block_size(self) -> int:
        return self.format.block_size

    @property
    def T(self) -> MXTensor:  # noqa: N802
        """The transpose, without a copy: the blocks follow their axis."""
        return replace(self, codes=self.codes.T, scales=self.scales.T, axis=self.ndim - 1 - self.axis)

    def dequantize(self, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """The values: scale times element, rounded to nearest even where float32 cannot hold the product.

        NVFP4's block scale is first multiplied by the tensor scale, or divided by the divisor, and rounded. It is UE4M3: its bit 7 is
        ignored, as matrix units do; torch, which has no such dtype, reads a scale with that bit set as a negative number.

        Args: out: float32, the tensor's shape, any strides; made when None.
        Returns: float32, the tensor's shape. A block whose scale is NaN (E8M0 255) is NaN.
        """
        from mxsim.conversion import dequantize

        return dequantize(self, out=out)

    def packed(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The bytes on disk: see mxsim.packing.pack.

        Returns: (element bytes, scale bytes), uint8, C order, blocks along the last axis. What needs no packing, the scales and the codes
        of eight-bit formats, is the tensor's own array where its blocks lie along the last axis.
        """
        import numpy as np

        from mxsim.arrays import axis_last
        from mxsim.packing import pack

        codes, scales = axis_last(self.codes, self.axis), axis_last(self.scales, self.axis)
        elements = codes if self.format.element.bits == 8 else pack(codes, self.format.element)
        return np.ascontiguousarray(elements), np.ascontiguousarray(scales)

    def __repr__(self) -> str:
        return f"MXTensor({self.format.name}, shape={self.shape}, axis={self.axis}, block_size={self.block_size})"
