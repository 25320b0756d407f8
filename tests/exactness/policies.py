"""Each producer's own bytes (tests/golden/policies) against the policy that is named after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

import mxsim
from tests.exactness.comparison import Comparison, compare, merged

GOLDEN = Path(__file__).parent.parent / "golden" / "policies"
LIBRARIES = ("torchao", "compressed-tensors", "modelopt", "quark", "auto-round", "microxcaling")
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
WORDS: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.uint32), "float16": np.dtype(np.uint16), "bfloat16": np.dtype(np.uint16)}

# A library's word for a mode -> what mxsim calls it; modes that are scale rules under mxsim's names need no entry.
ARGUMENTS: dict[str, dict[str, dict[str, str]]] = {
    "auto-round": {
        "mx_fp": {},
        "mx_fp_rceil": {"scale_rule": "rceil"},
        "mx_fp4_rceil_v2": {"scale_rule": "rceil_v2"},
    },
    "microxcaling": {
        "nearest": {},
        "even": {"rounding": "nearest_even"},
        "floor": {"rounding": "toward_zero"},
    },
}
NOT_REPRODUCED = {
    ("torchao", "one_level"): "NVFP4 without a tensor scale is no mode of mxsim",
    ("auto-round", "opt_rtn_mx_fp"): "opt_rtn tries three scales and keeps that of least error: no function of amax",
}
FAKE_ONLY = {
    "quark": ("mxfp8_e4m3", "mxfp8_e5m2", "mxint8"),
    "auto-round": ("mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxint8"),
}  #: formats that a library writes nowhere, so that a scale byte need only stand for the values
BYTES = "only fake-quantised there: the bytes computed for scales below 2^-126 or of blocks with NaN or Inf do not stand for its values"
EXPORT = "the export multiplies out and divides again in the weight's dtype, which cannot hold these scales or products"
FLOOR = "its rounding floor truncates numbers just below a power of two in the binade above"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one library made of one dtype in one format and mode."""

    producer: str  #: one of LIBRARIES
    dtype: str
    format: str
    mode: str  #: "" for microxcaling's scales, which its rounding does not touch

    @property
    def key(self) -> str:
        return "/".join(part for part in (self.dtype, self.format, self.mode) if part)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the mode is to mxsim.quantize."""
        renamed = ARGUMENTS.get(self.producer, {}).get(self.mode)
        rule = self.mode if self.mode in ("floor", "ceil", "rceil", "even") else None
        return {"policy": self.producer, **({"scale_rule": rule} if renamed is None else renamed)}


@lru_cache(maxsize=4)
def arrays_of(name: str) -> dict[str, npt.NDArray[Any]]:
    """A whole .npz file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def reference_of(library: str) -> str:
    """The library's name and version."""
    version = json.loads(str(arrays_of(library)["provenance"]))["version"]
    return f"{library} {version}" if version[0].isdigit() else f"{library}, retyped"


def cases_of(library: str) -> list[Case]:
    """Everything that a golden file holds, but the modes that mxsim does not have."""
    with np.load(GOLDEN / f"{library}.npz") as file:
        keys = dict.fromkeys(key.rpartition("/")[0] for key in file.files if "/" in key)
    cases = []
    for key in keys:
        dtype, format, *mode = key.split("/")
        cases.append(Case(producer=library, dtype=dtype, format=format, mode=mode[0] if mode else ""))
    return [case for case in cases if (library, case.mode) not in NOT_REPRODUCED]


def values_bits(values: npt.NDArray[np.float32], case: Case) -> npt.NDArray[Any]:
    """Bits of float32 values rounded to the case's dtype; one NaN; one zero for MXINT8, which OCP gives no other."""
    with np.errstate(over="ignore"):
        narrow = values.astype(DTYPES[case.dtype])
    if case.format == "mxint8":
        narrow = np.where(narrow == 0, DTYPES[case.dtype].type(0), narrow)
    nan = np.isnan(narrow.astype(np.float32))
    return np.where(nan, WORDS[case.dtype].type(0xFFFF), np.ascontiguousarray(narrow).view(WORDS[case.dtype]))


def inexact_exports(quantized: mxsim.MXTensor, x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Elements of finite blocks whose scale, or whose product with it, is no number of x's dtype."""
    block = quantized.block_size
    with np.errstate(all="ignore"):
        exact = quantized.dequantize().astype(np.float64)
        elements = mxsim.from_codes(quantized.codes, np.full_like(quantized.scales, 127), quantized.format).dequantize()
        scale = np.repeat(np.ldexp(1.0, quantized.scales.astype(np.int64) - 127), block, axis=-1)
        product = elements * scale
        holds_scale = scale.astype(np.float32).astype(x.dtype).astype(np.float64) == scale
        holds_product = exact.astype(x.dtype).astype(np.float64) == product
    finite = np.isfinite(x.astype(np.float32)).reshape(*quantized.scales.shape, block).all(axis=-1)
    return np.repeat(finite, block, axis=-1) & ~(holds_scale & holds_product)


def floored_too_high(quantized: mxsim.MXTensor, x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Normal elements whose floating-point log2, rounded to x's dtype, is a whole number above them."""
    least, most = 2.0 ** (quantized.format.element.emin + 1), 2.0 ** (quantized.format.element.emax + 1)
    with np.errstate(all="ignore"):
        scale = np.repeat(np.ldexp(1.0, quantized.scales.astype(np.int64) - 127), quantized.block_size, axis=-1)
        scaled = np.abs(x.astype(np.float64)) / scale
        rounded = np.log2(scaled).astype(np.float32).astype(x.dtype).astype(np.float64)
        above = np.ldexp(1.0, np.floor(rounded).clip(-1000, 1000).astype(np.int64))
    return np.isfinite(rounded) & (above > scaled) & (above >= least) & (above <= most)


def scale_bytes_elsewhere(case: Case, scales: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where mxsim's scale byte stands for the values that the library gives, and the byte that the library computes does not."""
    if case.format not in FAKE_ONLY.get(case.producer, ()):
        return np.zeros(scales.shape, np.bool_)
    lowest = 7 if case.format == "mxint8" else 0
    return (scales == 255) | ((scales <= lowest) & (case.producer == "quark"))


def block_comparisons(case: Case) -> Iterator[Comparison]:
    """The scales, and the codes or values, of the blocks of an MX format."""
    golden, reference = arrays_of(case.producer), reference_of(case.producer)
    x = arrays_of("inputs")[f"{case.dtype}/values"].view(DTYPES[case.dtype])
    quantized = mxsim.quantize(x, case.format, **case.arguments)
    if (scales := golden.get(f"{case.key}/scales")) is not None:
        left_out = scale_bytes_elsewhere(case, quantized.scales)
        yield _outside(left_out, BYTES, f"{case.key} scales", reference, quantized.scales, scales)
    if (codes := golden.get(f"{case.key}/codes")) is not None:
        left_out = inexact_exports(quantized, x) if case.producer == "auto-round" else np.zeros(x.shape, np.bool_)
        yield _outside(left_out, EXPORT, f"{case.key} codes", reference, quantized.codes, codes)
    if (want := golden.get(f"{case.key}/values")) is not None:
        rows = len(want)
        got = mxsim.fake_quantize(x[:rows], case.format, **case.arguments)
        floored = case.producer == "microxcaling" and case.mode == "floor" and case.format != "mxint8"
        left_out = floored_too_high(quantized, x)[:rows] if floored else np.zeros(want.shape, np.bool_)
        want_values = want.view(DTYPES[case.dtype]).astype(np.float32)
        yield _outside(left_out, FLOOR, f"{case.key} values", reference, values_bits(got, case), values_bits(want_values, case))


def _outside(
    left_out: npt.NDArray[np.bool_], why: str, what: str, reference: str, got: npt.NDArray[Any], want: npt.NDArray[Any]
) -> Comparison:
    where = np.flatnonzero(~left_out)
    row = compare(what, reference, got.ravel()[where], want.ravel()[where], lambda i: f"element {np.unravel_index(where[i], want.shape)}")
    return replace(row, left_out=int(np.count_nonzero(left_out)), why=why)


def step_comparisons(case: Case) -> Iterator[Comparison]:
    """The scale byte as a step function of amax: at, just before, just after and half way between its steps."""
    golden = arrays_of(case.producer)
    if f"{case.key}/amax_bits" not in golden:
        return
    starts, codes = golden[f"{case.key}/amax_bits"].astype(np.int64), golden[f"{case.key}/amax_codes"]
    infinity = int(np.array(np.inf, np.float32).astype(DTYPES[case.dtype]).view(WORDS[case.dtype]))
    ends = np.append(starts[1:], infinity + 1) - 1  # the last of each run
    probes = np.concatenate([starts, np.minimum(starts + 1, ends), (starts + ends) // 2, np.maximum(ends - 1, starts), ends])
    x = probes.astype(WORDS[case.dtype]).view(DTYPES[case.dtype]).reshape(-1, 1)
    x[1::2] *= -1
    got = mxsim.quantize(x, case.format, block_size=1, **case.arguments).scales.ravel()
    left_out = scale_bytes_elsewhere(case, got)
    yield _outside(left_out, BYTES, f"{case.key} amax steps", reference_of(case.producer), got, np.tile(codes, 5))


def nvfp4_comparisons(case: Case) -> Iterator[Comparison]:
    """The codes, block scales and tensor scales of NVFP4 tensors."""
    golden = arrays_of(case.producer)
    tensors = [
        mxsim.quantize(x, "nvfp4", policy=case.producer) for x in arrays_of("inputs")[f"{case.dtype}/nvfp4"].view(DTYPES[case.dtype])
    ]
    stored = golden[f"{case.key}/tensor_scale_bits"].astype(np.uint32).view(np.float32).ravel()
    if case.producer == "compressed-tensors":  # it stores the divisor
        with np.errstate(divide="ignore"):
            stored = np.float32(1) / stored
    scales = np.array([tensor.tensor_scale for tensor in tensors], np.float32)
    nan = np.isnan(stored) & np.isnan(scales)
    for what, got, want in (
        ("codes", np.stack([tensor.codes for tensor in tensors]), golden[f"{case.key}/codes"]),
        ("scales", np.stack([tensor.scales for tensor in tensors]), golden[f"{case.key}/scales"]),
        ("tensor scales", np.where(nan, 0, scales.view(np.uint32)), np.where(nan, 0, stored.view(np.uint32))),
    ):
        yield compare(f"{case.key} {what}", reference_of(case.producer), got, want)


def case_comparisons(case: Case) -> Iterator[Comparison]:
    """All that is known of one case."""
    if case.format == "nvfp4":
        yield from nvfp4_comparisons(case)
    else:
        yield from block_comparisons(case)
        yield from step_comparisons(case)


def comparisons() -> Iterator[Comparison]:
    """A row for each library, format and mode, all dtypes together; then what no policy has."""
    for library in LIBRARIES:
        cases = cases_of(library)
        for format, mode in dict.fromkeys((case.format, case.mode) for case in cases):
            same = [case for case in cases if (case.format, case.mode) == (format, mode)]
            dtypes = ", ".join(case.dtype for case in same)
            yield from merged(f"{format} {mode or 'scales'}: {dtypes}", (row for case in same for row in case_comparisons(case)))
        for (of, mode), why in NOT_REPRODUCED.items():
            if of == library:
                golden = arrays_of(library)
                count = sum(golden[key].size for key in golden if f"/{mode}/" in key)
                yield Comparison(what=mode, reference=reference_of(library), cases=0, mismatches=0, left_out=count, why=why)
