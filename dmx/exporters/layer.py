"""One linear of an export."""

from __future__ import annotations

from dataclasses import dataclass

from mxsim.formats import FORMATS, BlockFormat
from mxsim.packing import packed_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A linear whose weight is quantised."""

    name: str
    weight: str  #: a name of mxsim.FORMATS
    activation: str
    shape: tuple[int, int]  #: (out, in)

    @property
    def spec(self) -> BlockFormat:
        return FORMATS[self.weight]

    @property
    def element_shape(self) -> tuple[int, int]:
        """Of the element bytes."""
        return self.shape[0], packed_length(self.shape[1], self.spec)

    @property
    def scale_shape(self) -> tuple[int, int]:
        return self.shape[0], -(-self.shape[1] // self.spec.block_size)
