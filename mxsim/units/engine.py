"""Any path of any unit, exactly: the layout of K, the kernels' parameters, and the call.

Slower than mxsim.units.fast, and complete: NaN, Inf, subnormals, zeros with sign, overflow, every scale code, every combination of fields
that UnitPath allows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.kernels.units import decoding, parameters
from mxsim.kernels.units.products import fixed_products, stepwise_products
from mxsim.units.operands import Operand, OperandFormat
from mxsim.units.rounding import Rounding, rounding
from mxsim.units.spec import UnitPath

PANEL = 1 << 22  #: elements of an operand decoded at a time, some 6 bytes each

_MODES = {"rne": parameters.NEAREST_EVEN, "rz": parameters.TOWARD_ZERO, "rto": parameters.TO_ODD}
_ALIGN = {"trunc": parameters.TRUNC, "floor": parameters.FLOOR, "nearest": parameters.NEAREST, "jam": parameters.JAM}
_DENORMALS = {"keep": parameters.KEEP, "flush": parameters.FLUSH, "flush_signed": parameters.FLUSH_SIGNED}
_SPECIALS = {"none": parameters.NO_SPECIALS, "nan": parameters.NAN_ONLY, "ieee": parameters.IEEE, "fnuz": parameters.FNUZ}
_SCALES = {None: 0, "e8m0": parameters.E8M0, "ue4m3": parameters.UE4M3}
_NO_SCALES = np.zeros((0, 0), np.uint8)
_NO_TERMS = np.zeros((0, 0), np.int32)
_NO_C = np.zeros((0, 0), np.float32)
_FP16_EMIN = rounding("rne_fp16").emin


def run(path: UnitPath, a: Operand, b: Operand, c: npt.NDArray[Any] | None, out: npt.NDArray[Any]) -> None:
    """D = C + A B in the path's arithmetic.

    Args:
        a, b: (M, K) and (N, K): rows of A, columns of B, in formats that the path takes. K >= 1.
        c: (M, N) of out's dtype, C-contiguous; None is +0.
        out: (M, N) float32 or, where path.out is fp16, float16, C-contiguous; filled.
    """
    per_panel = max(PANEL // a.K, 64)
    for top in range(0, a.rows, per_panel):
        rows = slice(top, top + per_panel)
        for left in range(0, b.rows, per_panel):
            columns = slice(left, left + per_panel)
            addend = _NO_C if c is None else c[rows, columns].astype(np.float32)
            out[rows, columns] = _panel(path, _part(a, rows), _part(b, columns), addend)
    set_nan(out, path.nan)


def _part(x: Operand, rows: slice) -> Operand:
    return replace(x, codes=x.codes[rows], scales=None if x.scales is None else x.scales[rows])


def _panel(path: UnitPath, a: Operand, b: Operand, c: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Outputs whose operands are decoded at once, NaN with any bits; c is (0, 0) for none."""
    K = a.K
    order, chunks = _layout(path, K)
    roundings = [_round(r) for r in (path.step_rounding, path.late_rounding, path.promote_rounding, rounding(f"rne_{path.out}"))]
    out = np.empty((a.rows, b.rows), np.float32)
    if path.reduce in ("pairwise", "fma"):
        values = [np.empty((x.rows, order.size), np.float64) for x in (a, b)]
        for x, v in zip((a, b), values, strict=True):
            decoding.values(x.codes, _scales(x), order, _decoding(path, x), v)
        stepwise_products(*values, c, out, K, path.chains if path.reduce == "fma" else 0, chunks, *roundings)
    else:
        fixed = _fixed(path, a.format, b.format)
        terms: list[npt.NDArray[Any]] = []
        integers: list[npt.NDArray[Any]] = []
        for x in (a, b):
            places = order.size // path.presum if path.scaling == "group" else order.size
            significands, exponents = np.empty((x.rows, places), np.int32), np.empty((x.rows, places), np.int16)
            if path.scaling == "group":
                elements = np.empty((x.rows, order.size), np.int32)
                decoding.groups(x.codes, _scales(x), order, _decoding(path, x), path.presum, elements, significands, exponents)
                integers.append(elements)
            else:
                decoding.terms(x.codes, _scales(x), order, _decoding(path, x), significands, exponents)
                integers.append(_NO_TERMS)
            terms += [significands, exponents]
        fixed_products(*terms, *integers, c, out, fixed, chunks, *roundings)
    return out


def set_nan(out: npt.NDArray[Any], nan: int) -> None:
    """Give every NaN of a contiguous float32 or float16 array the unit's own bits."""
    mask = np.isnan(out)
    if mask.any():
        out.view(np.uint16 if out.dtype == np.float16 else np.uint32)[mask] = nan


def _scales(x: Operand) -> npt.NDArray[np.uint8]:
    return _NO_SCALES if x.scales is None else x.scales


@lru_cache(maxsize=256)
def _layout(path: UnitPath, K: int) -> tuple[npt.NDArray[np.int64], parameters.Chunks]:
    """(which k stands at each place, -1 for none; how chunks add up)."""
    length = path.chunk or K
    if path.reduce in ("align", "exact") and path.order == "ascending":
        length = min(length, -(-K // path.presum) * path.presum)  # a chunk that is longer holds nothing more
    if path.reduce == "fma" and path.c == "in_sum":
        length = path.promote_every or K  # one chain, however it is cut
    within = path.within or length
    starts = [s for block in range(0, K, within) for s in range(block, min(block + within, K), length)]
    rows = np.full((len(starts), length), -1, np.int64)
    for row, s in zip(rows, starts, strict=True):
        end = min(s + length, (s // within + 1) * within if path.within else s + length, K)
        row[: end - s] = np.arange(s, end)
    order = rows.reshape(-1)
    if path.order == "mod4_pairs":
        instruction = path.instruction_length or length
        order = np.concatenate([order, np.full(-order.size % instruction, -1)])
        order = order.reshape(-1, instruction // 4, 2, 2).swapaxes(1, 2).reshape(-1)
    elif path.order == "even_odd":
        order = order.reshape(-1, length // 2, 2).swapaxes(1, 2).reshape(-1)
    per_within = -(-within // length)

    def chunks_in(elements: int | None) -> int:
        return 0 if elements is None else elements // within * per_within

    chunks = parameters.Chunks(
        length=length // path.presum,
        number=order.size // length,
        instruction=0 if path.c != "late" else chunks_in(path.instruction) or 1,
        interval=chunks_in(path.promote_every),
        positive_zero=path.zero == "positive",
        c_denormals=_DENORMALS[path.c_denormals],
        c_emin=min(path.step_rounding.emin, rounding(f"rne_{path.out}").emin),
        c_normal=rounding(f"rne_{path.out}").emin,
    )
    return order, chunks


def _round(r: Rounding) -> parameters.Round:
    return parameters.Round(mode=_MODES[r.mode], mbits=r.mbits, emin=r.emin, emax=r.emax, flush=r.flush)


def _decoding(path: UnitPath, x: Operand) -> parameters.Decoding:
    f = x.format
    return parameters.Decoding(
        ebits=f.ebits,
        mbits=f.mbits,
        bias=f.bias if f.ebits else path.int8_fraction - f.mbits,
        specials=_SPECIALS[f.specials],
        low_bits=13 if f.name == "tf32" else 0,
        denormals=_DENORMALS[path.denormals],
        lowest=min(f.emin, _FP16_EMIN) if path.exponents == "fp16" else f.emin,
        scale=_SCALES[f.scale],
        block=x.block or 1,
    )


def _fixed(path: UnitPath, a: OperandFormat, b: OperandFormat) -> parameters.Fixed:
    fraction = sum(f.mbits + (3 if f.scale == "ue4m3" else 0) for f in (a, b))
    if path.scaling == "group":  # integers in units of 2^(emin - mbits), and no exponent of their own
        fraction -= sum(f.emin if f.ebits else f.mbits - path.int8_fraction for f in (a, b))
    c = path.floored_c
    return parameters.Fixed(
        exact=path.reduce == "exact",
        fraction=fraction,
        F=path.F or 0,
        e_zero=-parameters.NEVER if path.e_zero is None else path.e_zero,
        align=_ALIGN[path.align],
        limit=parameters.NEVER if path.product_limit is None else path.product_limit,
        halves=path.order == "even_odd",
        presum=path.presum if path.scaling == "group" else 0,
        floored=c is not None,
        sum_bits=c.sum_bits if c else 0,
        c_bits=c.c_bits if c else 0,
        norm_bits=c.norm_bits if c else 0,
        drop_below=parameters.NEVER if c is None or c.drop_below is None else c.drop_below,
    )
