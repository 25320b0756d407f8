"""The slow, exact truth about every matmul unit, written from the published descriptions alone.

`dot` computes one output of a unit, bit for bit, in integers and fractions. It imports nothing of the project. What the
descriptions leave open is settled in ../CHOICES.md.
"""

from collections.abc import Sequence

from . import amd, documented, ieee, nvidia, references
from .numbers import FLOATS, ZERO, Number, decode, encode, special_bits, special_of

UNITS = (
    *nvidia.PATHS,
    "amd_cdna1",
    "amd_cdna2",
    "amd_cdna3",
    "pulp_mxdotp",
    "riscv_bulknorm",
    "arm_fp8_fdot",
    "intel_amx",
    "mx_exact",
    "mx_fp32_chain",
)
FP64_UNITS = ("nvidia_ampere", "nvidia_ada", "nvidia_hopper_mma", "nvidia_blackwell_mma", "amd_cdna2", "amd_cdna3")
MX_ELEMENTS = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")


def dot(
    unit: str,
    a_codes: Sequence[int],
    a_format: str,
    b_codes: Sequence[int],
    b_format: str,
    a_scales: Sequence[int] | None = None,
    b_scales: Sequence[int] | None = None,
    scale_format: str | None = None,
    block: int = 32,
    c_bits: int = 0,
    out: str = "fp32",
    c_format: str | None = None,
) -> int:
    """D = sum_k a_k b_k + C as the unit computes it, in bits of `out`.

    Args:
        a_codes, b_codes: element codes of `a_format`, `b_format` (tf32: fp32 bits; e2m1, e3m2, e2m3: in the low bits)
        a_scales, b_scales: one code of `scale_format` (e8m0, ue4m3) a block of `block` elements, or None
        c_bits: bits of `c_format`: fp32 unless said (fp64 for fp64 operands); rounded RNE to `out` first
    """
    if (a_scales is None) != (b_scales is None):
        raise ValueError("either both operands are block scaled or neither is")
    c = narrowed(c_bits, c_format or ("fp64" if a_format == "fp64" else "fp32"), out, unit)
    a, b = ([decode(f, x) for x in v] for f, v in ((a_format, a_codes), (b_format, b_codes)))
    if a_scales is None or b_scales is None:
        return unscaled(unit, list(a_codes), a, a_format, list(b_codes), b, b_format, c, out)
    scales = scale_format or "e8m0"
    sa, sb = ([decode(scales, x) for x in v] for v in (a_scales, b_scales))
    return scaled(unit, a, a_format, b, b_format, sa, sb, block, c, out)


def narrowed(c: int, c_format: str, out: str, unit: str) -> int:
    """C in the output format."""
    if c_format == out:
        return c
    number = decode(c_format, c)
    special = special_of([number])
    if special:
        return special_bits(special, out, (nvidia.NAN if unit in nvidia.PATHS else ieee.QUIET_NAN)[out])
    return encode(number.value, out, "rne", negative_zero=number.negative)


def unscaled(
    unit: str,
    a_codes: list[int],
    a: list[Number],
    a_format: str,
    b_codes: list[int],
    b: list[Number],
    b_format: str,
    c: int,
    out: str,
) -> int:
    same = a_format == b_format
    if a_format == b_format == out == "fp64" and unit in FP64_UNITS:
        return ieee.fma_chain(a, b, c, "fp64")
    if unit in nvidia.WIDENING and a_format in nvidia.FP8 and b_format in nvidia.FP8:
        return nvidia.widening_mma(a, b, c, out)
    if unit in nvidia.PATHS:
        return nvidia.t_fdpa(unit, a, b, nvidia.family_of(a_format, b_format), c, out)
    if unit == "mx_exact":
        return references.mx_exact(references.products(a, b), c, out)
    if unit == "arm_fp8_fdot" and a_format in nvidia.FP8 and b_format in nvidia.FP8:
        return documented.arm_fp8_fdot(a, b, c, out)
    if out == "fp32":
        if unit.startswith("amd_cdna") and same and a_format == "fp32":
            return ieee.fma_chain(a, b, c, "fp32", amd.NAN_CDNA3 if unit == "amd_cdna3" else None)
        if unit == "amd_cdna1" and same and a_format in ("fp16", "bf16"):
            return amd.cdna1(a, b, a_format, c)
        if unit == "amd_cdna2" and same and a_format in ("fp16", "bf16"):
            return amd.cdna2(a_codes, b_codes, a_format, c)
        if unit == "amd_cdna3" and same and a_format in ("fp16", "bf16", "tf32"):
            return amd.cdna3(a, b, a_format, c)
        if unit == "amd_cdna3" and a_format in amd.FNUZ and b_format in amd.FNUZ:
            return amd.cdna3_fp8(a, b, c)
        if unit == "riscv_bulknorm" and ((same and a_format == "bf16") or {a_format, b_format} <= set(nvidia.FP8)):
            return documented.riscv_bulknorm(a, b, a_format, c)
        if unit == "intel_amx" and same and a_format in ("bf16", "fp16", "tf32"):
            return documented.intel_amx(a_codes, b_codes, a_format, c)
    raise ValueError(f"{unit} has no path for {a_format} x {b_format} -> {out}")


def scaled(
    unit: str,
    a: list[Number],
    a_format: str,
    b: list[Number],
    b_format: str,
    sa: list[Number],
    sb: list[Number],
    block: int,
    c: int,
    out: str,
) -> int:
    if unit == "nvidia_blackwell" and out == "fp32" and {a_format, b_format} <= set(MX_ELEMENTS):
        both_fp4 = a_format == b_format == "e2m1"
        return (nvidia.gst_fdpa if both_fp4 else nvidia.st_fdpa)(a, b, sa, sb, block, c)
    if unit == "pulp_mxdotp" and a_format == b_format in documented.MXDOTP_LANES and out in ("fp32", "bf16"):
        return documented.pulp_mxdotp(a, b, a_format, sa, sb, block, c, out)
    if unit == "mx_exact":
        return references.mx_exact(references.scaled(a, b, sa, sb, block), c, out)
    if unit == "mx_fp32_chain":
        return references.mx_fp32_chain(references.scaled(a, b, sa, sb, block), block, c, out)
    raise ValueError(f"{unit} has no block scaled path for {a_format} x {b_format} -> {out}")


def matmul(
    unit: str,
    a_codes: Sequence[Sequence[int]],
    a_format: str,
    b_codes: Sequence[Sequence[int]],
    b_format: str,
    a_scales: Sequence[Sequence[int]] | None = None,
    b_scales: Sequence[Sequence[int]] | None = None,
    scale_format: str | None = None,
    block: int = 32,
    c_bits: Sequence[Sequence[int]] | None = None,
    out: str = "fp32",
    c_format: str | None = None,
) -> list[list[int]]:
    """A (M, K) rows by B given as its N columns of length K (scales likewise); C and the result (M, N)."""
    return [
        [
            dot(
                unit,
                row,
                a_format,
                column,
                b_format,
                None if a_scales is None else a_scales[i],
                None if b_scales is None else b_scales[j],
                scale_format,
                block,
                0 if c_bits is None else c_bits[i][j],
                out,
                c_format,
            )
            for j, column in enumerate(b_codes)
        ]
        for i, row in enumerate(a_codes)
    ]


__all__ = ["FLOATS", "UNITS", "ZERO", "dot", "matmul"]
