"""Quick kernels for finite operands of ordinary size; whatever they decline, mxsim.units.engine computes.

    run(path, a, b, c, out)     as engine.run, and the same bits

Each kernel is exact as long as no operand is Inf or NaN and no exponent is extreme: nothing overflows, and every result but zero is a
normal number. So a kernel runs first, and the exponents of each row of A and column of B are surveyed on the way. Every output depends on
one row and one column alone: those with an Inf or a NaN, and those whose exponents do not prove the result, are left to the engine.

| kernel | paths | vector instructions of 256 bits for a product |
|---|---|---|
| fast_grouped | GST-FDPA: mxf4, mxf4nvf4 | 2/16: int16 multiply, add |
| fast_truncated | T-FDPA, ST-FDPA, CDNA3's step | 4/8: float32 multiply, exponent add, convert, add; 2/32 for the exponent |
| fast_exact | mx_fp32_chain, pulp_mxdotp, mx_exact | 1/8: float32 multiply-add; 1/4 in float64, with E4M3 or E5M2 |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.formats import ELEMENTS
from mxsim.kernels.units import fast_exact, fast_grouped, fast_truncated
from mxsim.kernels.units.fast_survey import NONE, survey
from mxsim.units import engine
from mxsim.units.operands import Operand, OperandFormat
from mxsim.units.spec import FlooredC, UnitPath

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

HIGHEST = 125  #: exponents of C, and of any sum that a kernel makes, are below this
LOWEST_C = fast_truncated.LOWEST  #: of a C that is not zero
_TRUNCATED_PANEL, _GROUPED_PANEL, _EXACT_PANEL = 512, 1024, 256  #: elements of K at a time, for the caches
_NOT_ARITHMETIC = {"name", "formats", "pairs", "nan", "level", "source", "vectors", "promote_every", "zero"}
_CDNA3_C = FlooredC(sum_bits=32, c_bits=24, norm_bits=31)
_ELEMENTS = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
_MX_FLOATS = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4_e2m1")


def run(path: UnitPath, a: Operand, b: Operand, c: npt.NDArray[Any] | None, out: npt.NDArray[Any]) -> None:
    """D = C + A B in the path's arithmetic.

    Args:
        a, b: (M, K) and (N, K): rows of A, columns of B, in formats that the path takes. K >= 1.
        c: (M, N) of out's dtype, C-contiguous; None is +0.
        out: (M, N) float32 or, where path.out is fp16, float16, C-contiguous; filled.
    """
    kernel = kernel_for(path, a.format, b.format)
    if kernel is None:
        engine.run(path, a, b, c, out)
        return
    turned = b.rows < fast_truncated.WIDTH <= a.rows  # products commute, and the kernels want many columns
    rows, columns = _run_turned(kernel, path, a, b, c, out) if turned else _run(kernel, path, a, b, c, out)
    for i, j in ((rows, np.ones_like(columns)), (~rows, columns)):
        if i.any() and j.any():
            rest = np.empty((int(i.sum()), int(j.sum())), out.dtype)
            at = np.ix_(i, j)
            engine.run(path, _rows(a, i), _rows(b, j), None if c is None else np.ascontiguousarray(c[at]), rest)
            out[at] = rest


@dataclass(frozen=True, slots=True)
class Extent:
    """The exponents of an operand's rows: see fast_survey.survey."""

    lowest: Int32
    highest: Int32
    span: Int32

    @classmethod
    def of(cls, rows: int) -> Extent:
        return cls(np.full(rows, NONE, np.int32), np.full(rows, -NONE, np.int32), np.zeros(rows, np.int32))


Kernel = Callable[[Operand, Operand, Float32], tuple[Mask, Mask]]


def kernel_for(path: UnitPath, a: OperandFormat, b: OperandFormat) -> Kernel | None:
    """The kernel that computes a path, given operands and C in a float32 (M, N) that it turns into D; None where there is none.

    The kernel returns the rows (M,) and columns (N,) whose outputs are not proven.
    """
    if path.out != "fp32":
        return None
    step, formats = path.step_rounding, {a.name, b.name}
    wide = step.ebits == 8 and not step.flush
    if formats <= {"fp16", "bf16", "tf32", *_ELEMENTS, *_MX_FLOATS} and path.F is not None and path.chunk is not None:
        fits = path.F <= 29 and path.chunk <= min(2 << (29 - path.F), 64) and path.block in (None, path.chunk)
        aligned: dict[str, Any] = {"chunk": path.chunk, "F": path.F, "block": path.block, "scaling": path.scaling, "step": path.step}
        low_zero = path.e_zero is None or path.e_zero < LOWEST_C - 30
        if fits and path.scaling != "group" and low_zero and wide:
            if step.mode == "rz" and _is(path, **aligned, e_zero=path.e_zero):
                return partial(_truncated, path=path, rule=fast_truncated.RZ)
            floored: dict[str, Any] = {"c": "floored", "floored_c": _CDNA3_C, "product_limit": path.product_limit}
            unlimited = path.product_limit is None or path.product_limit > HIGHEST
            if path.F == 24 and path.chunk <= 16 and path.step == "rne_fp32" and unlimited and _is(path, **aligned, **floored):
                return partial(_truncated, path=path, rule=fast_truncated.CDNA3)
    grouped = {"scaling": "group", "presum": 16, "chunk": 64, "F": fast_grouped.F, "e_zero": fast_grouped.E_ZERO, "block": path.block}
    if formats in ({"mxfp4_e2m1"}, {"nvfp4"}) and path.block in (16, 32) and _is(path, **grouped):
        return partial(_grouped, path=path)
    if formats <= {*_MX_FLOATS, "mxint8", "nvfp4"} and path.reduce == "exact" and path.block in (16, 32):
        summed = {"reduce": "exact", "scaling": "exact", "step": "rne_fp32", "block": path.block, "int8_fraction": path.int8_fraction}
        if _is(path, **summed):
            return partial(_exact, path=path, rule=fast_exact.EXACT)
        if _is(path, **summed, chunk=path.block, c="late"):
            return partial(_exact, path=path, rule=fast_exact.CHAIN)
        in_blocks = path.within == path.block or (path.within is None and path.block % (path.chunk or path.block + 1) == 0)
        if in_blocks and _is(path, **summed, chunk=path.chunk, within=path.within):
            return partial(_exact, path=path, rule=fast_exact.FUSED)
    return None


def _is(path: UnitPath, **expected: object) -> bool:
    """Whether the path's arithmetic is UnitPath's defaults but for these fields. (No kernel gives a negative zero.)"""
    return all(getattr(path, f.name) == expected.get(f.name, f.default) for f in fields(path) if f.name not in _NOT_ARITHMETIC)


def _rows(x: Operand, at: Any) -> Operand:
    return replace(x, codes=np.ascontiguousarray(x.codes[at]), scales=None if x.scales is None else np.ascontiguousarray(x.scales[at]))


def _run(kernel: Kernel, path: UnitPath, a: Operand, b: Operand, c: npt.NDArray[Any] | None, out: npt.NDArray[Any]) -> tuple[Mask, Mask]:
    """Fill out, and say which rows and columns the engine has to redo."""
    unproven = np.zeros(a.rows, np.bool_)
    if c is None:
        out[:] = 0
    else:
        magnitude = np.abs(c)
        fine = (magnitude < 2.0**HIGHEST) & ((magnitude >= 2.0**LOWEST_C) | (magnitude == 0))
        unproven = ~fine.all(axis=1)
        out[:] = np.where(unproven[:, None], np.float32(0), c)
    if path.promote_every is None:
        rows, columns = kernel(a, b, out)
        return rows | unproven, columns
    columns = np.zeros(b.rows, np.bool_)
    for first in range(0, a.K, path.promote_every):
        part = np.zeros_like(out)
        ends = first, min(first + path.promote_every, a.K)
        more_rows, more_columns = kernel(_part(a, *ends), _part(b, *ends), part)
        unproven, columns = unproven | more_rows, columns | more_columns
        with np.errstate(all="ignore"):
            out += part
    return unproven, columns


def _run_turned(
    kernel: Kernel, path: UnitPath, a: Operand, b: Operand, c: npt.NDArray[Any] | None, out: npt.NDArray[Any]
) -> tuple[Mask, Mask]:
    turned = np.empty(out.T.shape, out.dtype)
    columns, rows = _run(kernel, path, b, a, None if c is None else np.ascontiguousarray(c.T), turned)
    out[:] = turned.T
    return rows, columns


def _part(x: Operand, first: int, last: int) -> Operand:
    """Columns first to last of K, which begin a block."""
    block = x.block or 1
    scales = None if x.scales is None else np.ascontiguousarray(x.scales[:, first // block : -(-last // block)])
    return replace(x, codes=np.ascontiguousarray(x.codes[:, first:last]), scales=scales)


@lru_cache(maxsize=32)
def _table(name: str) -> Float32:
    """The value of each of 256 codes; the bits above an element's are ignored."""
    values = ELEMENTS["e2m1" if name == "nvfp4" else name.rpartition("_")[2].removeprefix("mx")].values()
    return np.tile(values, 256 // values.size)


def _values(x: Operand, first: int, last: int) -> Float32:
    """Elements first to last of every row as float32, exactly, without their scales."""
    codes = x.codes[:, first:last]
    if x.format.name == "fp16":
        return codes.view(np.float16).astype(np.float32)
    if x.format.name == "bf16":
        return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if x.format.name == "tf32":
        return (codes & np.uint32(0xFFFFE000)).view(np.float32)
    return _table(x.format.name).take(codes)


@lru_cache(maxsize=4)
def _scale_tables(scale: str | None) -> tuple[Int32, npt.NDArray[np.float64]]:
    """(exponent, value) of each scale code; NaN has an exponent above 127 and the value 0, a zero the value 0."""
    codes = np.arange(256)
    if scale != "ue4m3":
        return (codes - 127).astype(np.int32), np.where(codes == 255, 0.0, np.ldexp(1.0, codes - 127))
    values = np.nan_to_num(ELEMENTS["e4m3"].values()[codes & 0x7F].astype(np.float64))
    exponents = np.where(codes & 0x7F == 0x7F, NONE, np.maximum((codes >> 3 & 15) - 7, -6))
    return exponents.astype(np.int32), values


def _scale_exponents(x: Operand, first: int, last: int, chunk: int) -> Int32:
    """(rows, chunks): the exponents of the scales of elements first to last; zeros for operands without."""
    if x.scales is None or x.block is None:
        return np.zeros((x.rows, -(-(last - first) // chunk)), np.int32)
    return _scale_tables(x.format.scale)[0].take(x.scales[:, first // x.block : -(-last // x.block)])


def _panels(K: int, width: int) -> Iterator[tuple[int, int]]:
    for first in range(0, K, width):
        yield first, min(first + width, K)


def _short(a: Int32, b: Int32, least: int) -> tuple[Mask, Mask]:
    """The rows and columns to leave out so that every a + b of the others is at least `least`."""
    if a.size == 0 or b.size == 0 or int(a.min()) + int(b.min()) >= least:
        return np.zeros(a.shape, np.bool_), np.zeros(b.shape, np.bool_)
    half = least // 2
    least_a = least - int(b.min()) if b.min() >= half else max(half, least - int(b.max()))
    rows = a < min(least_a, least - half)
    return rows, b < least - int(a[~rows].min(initial=NONE))


def _unproven(a: Extent, b: Extent, lowest: int, highest: int, span: int) -> tuple[Mask, Mask]:
    """Rows and columns outside these bounds on the exponents of products, and on the spans of a row's and a column's blocks together.

    With them every one that holds an Inf or a NaN, which zeros on the other side do not bound but turn into NaN.
    """
    pairs = (_short(a.lowest, b.lowest, lowest), _short(-a.highest, -b.highest, -highest), _short(-a.span, -b.span, -span))
    rows, columns = (np.logical_or.reduce(parts) for parts in zip(*pairs, strict=True))
    return rows | (a.highest == NONE), columns | (b.highest == NONE)


def _truncated(a: Operand, b: Operand, out: Float32, *, path: UnitPath, rule: int) -> tuple[Mask, Mask]:
    """T-FDPA, ST-FDPA, CDNA3."""
    L, F = path.chunk or 0, path.F or 0
    kept = np.int64(-1 << (52 - path.step_rounding.mbits))
    extents = Extent.of(a.rows), Extent.of(b.rows)
    for first, last in _panels(a.K, _TRUNCATED_PANEL // L * L):
        chunks = -(-(last - first) // L)
        values = _values(a, first, last), _values(b, first, last)
        scales = _scale_exponents(a, first, last, L), _scale_exponents(b, first, last, L)
        for x, v, s, extent in zip((a, b), values, scales, extents, strict=True):
            empty = np.empty(s.shape, np.bool_)
            survey(v, s, L, x.format.emin, extent.lowest, extent.highest, extent.span, empty)
        packed = np.empty((chunks, a.rows, L), np.float32)
        exponents = np.empty((chunks, a.rows, L), np.int8)
        blocks = np.empty((chunks, a.rows), np.int32)
        fast_truncated.pack_rows(values[0], scales[0], L, a.format.emin, packed, exponents, blocks)
        fast_truncated.truncated_panel(packed, exponents, blocks, values[1], scales[1], b.format.emin, L, F, kept, rule, out)
    rows, columns = _unproven(*extents, fast_truncated.LOWEST, HIGHEST - 2 - a.K.bit_length(), 2 * fast_truncated.REACH)
    return rows | (extents[0].span > fast_truncated.REACH), columns | (extents[1].span > fast_truncated.REACH)


def _grouped(a: Operand, b: Operand, out: Float32, *, path: UnitPath) -> tuple[Mask, Mask]:
    """GST-FDPA of FP4."""
    L, block, scale = fast_grouped.L, path.block or 0, a.format.scale
    exponents, values = _scale_tables(scale)
    halves = (_table("e2m1") * 2).astype(np.int16)
    # Products of halves are quarters; UE4M3 scales bring three fraction bits each. Whatever is a multiple of the quantum is not cut.
    spread = fast_grouped.F - 2 - (6 if scale == "ue4m3" else 0)
    tables = halves, exponents, values / 2
    extents = Extent.of(a.rows), Extent.of(b.rows)
    padded = -(-a.rows // fast_grouped.SIDE) * fast_grouped.SIDE
    for first, last in _panels(a.K, _GROUPED_PANEL):
        chunks = -(-(last - first) // L)
        packed = np.zeros((chunks, padded, L), np.int16)
        a_exponents = np.zeros((chunks, padded, L // block), np.int32)
        factors = np.zeros((chunks, padded, L // block), np.float64)
        ranges = np.zeros((chunks, padded, 2), np.int32)
        fast_grouped.pack_rows(a.codes, a.scales, first, last, block, *tables, packed, a_exponents, factors, ranges)
        np.minimum(extents[0].lowest, ranges[:, : a.rows, 0].min(axis=0), out=extents[0].lowest)
        np.maximum(extents[0].highest, ranges[:, : a.rows, 1].max(axis=0), out=extents[0].highest)
        own = packed, a_exponents, factors, ranges
        lowest, highest = extents[1].lowest, extents[1].highest
        fast_grouped.grouped_panel(*own, b.codes, b.scales, first, last, block, spread, *tables, lowest, highest, out)
    rows, columns = _unproven(*extents, fast_grouped.LOWEST, HIGHEST - 12 - a.K.bit_length(), 0)
    nan = [(exponents.take(x.scales) > 127).any(axis=1) for x in (a, b) if x.scales is not None]
    return rows | nan[0], columns | nan[1]


def _exact(a: Operand, b: Operand, out: Float32, *, path: UnitPath, rule: int) -> tuple[Mask, Mask]:
    """mx_fp32_chain, pulp_mxdotp, mx_exact."""
    M, N, block, side = a.rows, b.rows, path.block or 0, fast_exact.SIDE
    sum_bits = a.format.fixed_point_bits + b.format.fixed_point_bits + block.bit_length() - 1
    dtype = np.float32 if sum_bits <= 24 else np.float64
    extents = Extent.of(M), Extent.of(N)
    shape = -(-M // side) * side, -(-N // 16) * 16
    c = out if shape == out.shape else np.pad(out, ((0, shape[0] - M), (0, shape[1] - N)))
    high, low = (np.zeros(shape if rule == fast_exact.EXACT else (0, 0), np.float64) for _ in range(2))
    for first, last in _panels(a.K, _EXACT_PANEL):
        values, factors = [], []
        for x, extent in zip((a, b), extents, strict=True):
            v, exponents = _values(x, first, last), _scale_exponents(x, first, last, block)
            codes = np.empty((x.rows, 0), np.uint8) if x.scales is None else x.scales[:, first // block : -(-last // block)]
            scales = _scale_tables(x.format.scale)[1].take(codes)
            if not scales.all():
                v[np.repeat(scales == 0, block, axis=1)[:, : last - first]] = 0  # a negative sum times a zero would be a negative zero
            integers = 0 if x.format.ebits else x.format.mbits - path.int8_fraction
            empty = np.empty(exponents.shape, np.bool_)
            survey(v, exponents + integers, block, x.format.emin, extent.lowest, extent.highest, extent.span, empty)
            factors.append(np.where(empty, 0, np.ldexp(scales, integers).clip(max=2.0**127)).astype(np.float32))
            values.append(v.astype(dtype))
        blocks = factors[0].shape[1]
        packed = np.zeros((shape[0] // side, blocks * block, side), dtype)
        fast_exact.pack_sides(values[0], packed)
        a_factors = np.pad(factors[0], ((0, shape[0] - M), (0, 0)))
        ends = _segments(blocks, block, path.chunk or block)
        fast_exact.exact_panel(packed, a_factors, values[1], factors[1], ends, block, rule, c, high, low)
    if rule == fast_exact.EXACT:
        fast_exact.round_once(c, high, low)
    if c is not out:
        out[:] = c[:M, :N]
    return _unproven_sums(a.format, b.format, extents, a.K, block, dtype is np.float64, rule)


def _segments(blocks: int, block: int, chunk: int) -> npt.NDArray[np.int64]:
    """Where each sum ends: after `chunk` elements or with its block."""
    ends = [min(first + chunk, block) for first in range(0, block, chunk)]
    return (np.arange(blocks, dtype=np.int64)[:, None] * block + np.array(ends, np.int64)).reshape(-1)


def _unproven_sums(
    a: OperandFormat, b: OperandFormat, extents: tuple[Extent, Extent], K: int, block: int, double: bool, rule: int
) -> tuple[Mask, Mask]:
    """What fast_exact takes for granted: sums of a block, and of everything, that are exact; products of scales that are normal."""
    fraction = a.mbits + b.mbits + (6 if a.scale == "ue4m3" else 0)
    smallest_scale = sum(f.fixed_point_bits - f.mbits + f.emin for f in (a, b)) - 126  # an element's exponent is below these
    lowest = max(fraction - 122, smallest_scale)
    highest = min(HIGHEST - 4 - K.bit_length(), 127 + a.emin + b.emin)
    span = 53 - 2 - (block.bit_length() - 1) - a.mbits - b.mbits if double else NONE
    rows, columns = _unproven(*extents, lowest, highest, span)
    if rule == fast_exact.EXACT:
        # Two float64 hold 106 bits, of which the errors of the first take as many as there are blocks to add.
        whole = [np.where(x.highest < x.lowest, 0, x.highest - x.lowest).astype(np.int32) for x in extents]
        more = _short(-whole[0], -whole[1], -(106 - 4 - 2 * K.bit_length() - fraction))
        return rows | more[0], columns | more[1]
    return rows, columns
