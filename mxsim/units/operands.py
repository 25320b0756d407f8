"""The operand formats of matrix units, and operands as the kernels take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mxsim.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandFormat:
    """What a code means to a unit: sign, exponent and significand fields, and the scale its block carries.

    Fixed point (ebits = 0) is a two's complement byte.
    """

    name: str
    ebits: int
    mbits: int
    bias: int = 0
    specials: str = "none"  #: none | nan (the all-ones code) | ieee (Inf and NaN in the top exponent) | fnuz (minus zero is NaN)
    code: type[np.unsignedinteger[Any]] = np.uint8
    dtype: Any = None  #: the numpy dtype of a plain array; None: block formats
    scale: str | None = None  #: e8m0 | ue4m3; None: an operand without scales

    @property
    def emin(self) -> int:
        """Exponent of subnormals, and of the smallest normal number."""
        return 1 - self.bias if self.ebits else 0

    @property
    def fixed_point_bits(self) -> int:
        """Bits of the largest finite magnitude in units of the smallest."""
        if not self.ebits:
            return 8
        top = (1 << self.ebits) - 1 - (self.specials == "ieee")
        return top + self.mbits

    @property
    def scale_block(self) -> int:
        """Elements to a scale in the format's definition."""
        return {"e8m0": 32, "ue4m3": 16}.get(self.scale or "", 0)


def _plain(name: str, ebits: int, mbits: int, bias: int, specials: str, dtype: Any) -> OperandFormat:
    code: Any = {1: np.uint8, 2: np.uint16, 4: np.uint32}[np.dtype(dtype).itemsize]
    return OperandFormat(name=name, ebits=ebits, mbits=mbits, bias=bias, specials=specials, code=code, dtype=dtype)


def _scaled(name: str, ebits: int, mbits: int, bias: int, specials: str, scale: str) -> OperandFormat:
    return OperandFormat(name=name, ebits=ebits, mbits=mbits, bias=bias, specials=specials, scale=scale)


OPERANDS: Registry[OperandFormat] = Registry(
    "operand format",
    [
        # IEEE 754 binary16 and binary32; bfloat16 and TF32: NVIDIA PTX ISA, "alternate floating-point data formats"
        _plain("fp32", 8, 23, 127, "ieee", np.float32),
        _plain("tf32", 8, 23, 127, "ieee", np.float32),  # held in float32; the low 13 bits are cleared first
        _plain("bf16", 8, 7, 127, "ieee", ml_dtypes.bfloat16),
        _plain("fp16", 5, 10, 15, "ieee", np.float16),
        # OCP OFP8 v1.0; OCP MX v1.0, 5.3
        _plain("e5m2", 5, 2, 15, "ieee", ml_dtypes.float8_e5m2),
        _plain("e4m3", 4, 3, 7, "nan", ml_dtypes.float8_e4m3fn),
        _plain("e3m2", 3, 2, 3, "none", ml_dtypes.float6_e3m2fn),
        _plain("e2m3", 2, 3, 1, "none", ml_dtypes.float6_e2m3fn),
        _plain("e2m1", 2, 1, 1, "none", ml_dtypes.float4_e2m1fn),
        # AMD CDNA3 ISA: FP8 and BF8 of MI300
        _plain("e5m2fnuz", 5, 2, 16, "fnuz", ml_dtypes.float8_e5m2fnuz),
        _plain("e4m3fnuz", 4, 3, 8, "fnuz", ml_dtypes.float8_e4m3fnuz),
        # OCP MX v1.0, table 1; NVFP4: NVIDIA PTX ISA, mxf4nvf4
        _scaled("mxfp8_e4m3", 4, 3, 7, "nan", "e8m0"),
        _scaled("mxfp8_e5m2", 5, 2, 15, "ieee", "e8m0"),
        _scaled("mxfp6_e3m2", 3, 2, 3, "none", "e8m0"),
        _scaled("mxfp6_e2m3", 2, 3, 1, "none", "e8m0"),
        _scaled("mxfp4_e2m1", 2, 1, 1, "none", "e8m0"),
        _scaled("mxint8", 0, 6, 0, "none", "e8m0"),
        _scaled("nvfp4", 2, 1, 1, "none", "ue4m3"),
    ],
)
PLAIN = {np.dtype(f.dtype): f for f in OPERANDS.values() if f.dtype is not None and f.name != "tf32"}  #: dtype -> format


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operand:
    """A as its rows, or B as its columns, K innermost.

    Elements are codes, one a byte for formats of 8 bits and fewer (FP6 and FP4 in the low bits, whatever stands above them), or the bit
    patterns of wider floats.
    """

    format: OperandFormat
    codes: npt.NDArray[Any]  #: (rows, K) uint8, uint16 (fp16, bf16) or uint32 (fp32, tf32), C-contiguous
    scales: npt.NDArray[np.uint8] | None = None  #: (rows, ceil(K / block)) E8M0, or E4M3 codes whose sign counts for nothing; C-contiguous
    block: int | None = None  #: elements to a scale; the last block may be shorter

    @property
    def rows(self) -> int:
        return int(self.codes.shape[0])

    @property
    def K(self) -> int:  # noqa: N802
        return int(self.codes.shape[1])
