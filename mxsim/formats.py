"""What the bits of an element, a scale and a block mean. To add a format, add one literal to a table below."""

from __future__ import annotations

import enum
import math
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mxsim.errors import MxsimError
from mxsim.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Specials(enum.Enum):
    """Which codes of the top exponent are not numbers."""

    NONE = "none"  #: every code is a number
    NAN = "nan"  #: the all-ones code alone is NaN (OFP8 E4M3, E8M0)
    IEEE = "inf and nan"  #: the top exponent holds Inf (significand 0) and NaN (the rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementFormat:
    """A scalar format: sign, exponent and significand fields, or (ebits = 0) a two's complement fixed point number.

    A code's magnitude bits are `exponent field << mbits | significand field`; the sign, where there is one, is the bit above.
    """

    name: str
    ebits: int  #: exponent field, bits; 0 is fixed point
    mbits: int  #: stored significand bits, hidden bit excluded; for fixed point the fraction bits
    specials: Specials = Specials.NONE
    signed: bool = True
    subnormals: bool = True  #: exponent field 0 means no hidden bit (E8M0: it is a power of two like any other)
    source: str

    @property
    def is_fixed_point(self) -> bool:
        return self.ebits == 0

    @property
    def bits(self) -> int:
        """Bits an element takes. Fixed point has one integer bit beside sign and fraction."""
        return int(self.signed) + (1 if self.is_fixed_point else self.ebits) + self.mbits

    @property
    def codes(self) -> int:
        """Number of codes."""
        return 1 << self.bits

    @property
    def sign_mask(self) -> int:
        """The sign's bit in a code, 0 where there is none."""
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def bias(self) -> int:
        return (1 << (self.ebits - 1)) - 1 if self.ebits else 0

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return (1 if self.subnormals else 0) - self.bias if self.ebits else 0

    @property
    def emax(self) -> int:
        """Exponent of the largest number."""
        return math.frexp(self.max)[1] - 1

    @property
    def max_code(self) -> int:
        """Code of the largest finite number."""
        magnitudes = (1 << self.bits - int(self.signed)) - 1
        if self.specials is Specials.NAN:
            return magnitudes - 1
        if self.specials is Specials.IEEE:
            return magnitudes - (1 << self.mbits)
        return magnitudes

    @property
    def inf_code(self) -> int | None:
        """Code of +Inf, None where there is none."""
        return self.max_code + 1 if self.specials is Specials.IEEE else None

    @property
    def nan_code(self) -> int | None:
        """Code of the canonical NaN: quiet, as the standard's encodings allow, sign clear; None where there is none."""
        if self.specials is Specials.NAN:
            return self.max_code + 1
        if self.specials is Specials.IEEE:
            return self.max_code + 1 + (1 << self.mbits - 1)
        return None

    @property
    def max(self) -> float:
        """The largest finite number."""
        return self.value_of(self.max_code)

    @property
    def min_normal(self) -> float | None:
        """The smallest normal number; None for fixed point, which has none."""
        return math.ldexp(1.0, self.emin) if self.ebits else None

    @property
    def smallest(self) -> float:
        """The smallest number above zero."""
        return self.value_of(1 if self.subnormals else 0)

    def value_of(self, code: int) -> float:
        """The number that `code` stands for, exactly: every format here fits a Python float.

        Args: code: 0 <= code < codes; above that MxsimError.
        """
        if not 0 <= code < self.codes:
            raise MxsimError(f"{self.name} code {code} is out of range: codes are 0 to {self.codes - 1}")
        sign = -1.0 if code & self.sign_mask else 1.0
        if self.is_fixed_point:
            return math.ldexp(code - self.codes if code & self.sign_mask else code, -self.mbits)
        magnitude = code & ~self.sign_mask
        if magnitude > self.max_code:
            return math.copysign(math.inf if magnitude == self.inf_code else math.nan, sign)
        exponent, significand = magnitude >> self.mbits, magnitude & ((1 << self.mbits) - 1)
        if self.subnormals and exponent == 0:
            return sign * math.ldexp(significand, self.emin - self.mbits)
        return sign * math.ldexp(significand + (1 << self.mbits), exponent - self.bias - self.mbits)

    def values(self) -> npt.NDArray[np.float32]:
        """Every code's value: (codes,) float32, exact."""
        import numpy as np

        return np.array([self.value_of(code) for code in range(self.codes)], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFormat:
    """Elements that share a scale, block by block."""

    name: str
    element: ElementFormat
    scale: ElementFormat
    block_size: int
    tensor_scale: bool = False  #: a float32 factor for the whole tensor besides
    source: str

    @property
    def bits_per_element(self) -> float:
        """Bits an element costs with its share of the block's scale (a tensor scale's 32 bits left out)."""
        return self.element.bits + self.scale.bits / self.block_size

    def with_block_size(self, block_size: int) -> BlockFormat:
        """The same format with another number of elements to a scale."""
        return self if block_size == self.block_size else replace(self, block_size=block_size)


ELEMENTS: Registry[ElementFormat] = Registry(
    "element format",
    [
        ElementFormat(name="e5m2", ebits=5, mbits=2, specials=Specials.IEEE, source="OCP MX v1.0, 5.3.1; OFP8 v1.0"),
        ElementFormat(name="e4m3", ebits=4, mbits=3, specials=Specials.NAN, source="OCP MX v1.0, 5.3.1; OFP8 v1.0"),
        ElementFormat(name="e3m2", ebits=3, mbits=2, source="OCP MX v1.0, 5.3.2"),
        ElementFormat(name="e2m3", ebits=2, mbits=3, source="OCP MX v1.0, 5.3.2"),
        ElementFormat(name="e2m1", ebits=2, mbits=1, source="OCP MX v1.0, 5.3.3"),
        ElementFormat(name="int8", ebits=0, mbits=6, source="OCP MX v1.0, 5.3.4: implicit scale 2^-6"),
        ElementFormat(
            name="e8m0",
            ebits=8,
            mbits=0,
            specials=Specials.NAN,
            signed=False,
            subnormals=False,
            source="OCP MX v1.0, 5.4.1",
        ),
    ],
)

FORMATS: Registry[BlockFormat] = Registry(
    "block format",
    [
        BlockFormat(
            name=name,
            element=ELEMENTS[element],
            scale=ELEMENTS[scale],
            block_size=block_size,
            tensor_scale=tensor_scale,
            source=source,
        )
        for name, element, scale, block_size, tensor_scale, source in (
            ("mxfp8_e4m3", "e4m3", "e8m0", 32, False, "OCP MX v1.0, table 1"),
            ("mxfp8_e5m2", "e5m2", "e8m0", 32, False, "OCP MX v1.0, table 1"),
            ("mxfp6_e3m2", "e3m2", "e8m0", 32, False, "OCP MX v1.0, table 1"),
            ("mxfp6_e2m3", "e2m3", "e8m0", 32, False, "OCP MX v1.0, table 1"),
            ("mxfp4_e2m1", "e2m1", "e8m0", 32, False, "OCP MX v1.0, table 1"),
            ("mxint8", "int8", "e8m0", 32, False, "OCP MX v1.0, table 1"),
            ("nvfp4", "e2m1", "e4m3", 16, True, "NVIDIA PTX ISA, mxf4nvf4: ue4m3 scale for 16 e2m1 elements"),
        )
    ],
)


def block_format(format: str | BlockFormat, block_size: int | None = None) -> BlockFormat:
    """The block format of a name, with another block size where one is given."""
    spec = format if isinstance(format, BlockFormat) else FORMATS[format]
    if block_size is None:
        return spec
    try:
        size = 0 if isinstance(block_size, bool) else operator.index(block_size)
    except TypeError:
        size = 0
    if size < 1:
        raise MxsimError(f"block_size is {block_size!r}: pass a whole number of elements, at least 1 (None: {spec.block_size})")
    return spec.with_block_size(size)


def element_format(format: str | ElementFormat) -> ElementFormat:
    """The element format of a name."""
    return format if isinstance(format, ElementFormat) else ELEMENTS[format]
