"""quantize, dequantize and fake_quantize against the exact block oracle, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import mxsim
from mxsim import elements
from tests.exactness.blocks import DTYPES, awkward_rows, random_patterns
from tests.exactness.comparison import Comparison, compare
from tests.oracles import conversion, numbers, tensors

ROUNDINGS = (*numbers.ROUNDINGS, "stochastic")
SEED = 0x1234_5678_9ABC_DEF0


def rules_of(format_name: str) -> tuple[str | None, ...]:
    """The scale rules that a format knows: an E4M3 scale (nvfp4) has one definition."""
    return (None,) if format_name == "nvfp4" else conversion.SCALE_RULES


def bits_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def array_comparisons(
    what: str,
    values: npt.NDArray[Any],
    format_name: str,
    *,
    axis: int = -1,
    scale_rule: str | None = None,
    rounding: str = "nearest_even",
    block_size: int | None = None,
) -> Iterator[Comparison]:
    """One array through the three functions, every bit against the oracle."""
    seed = SEED if rounding == "stochastic" else None
    arguments = {"axis": axis, "scale_rule": scale_rule, "rounding": rounding, "block_size": block_size, "seed": seed}
    quantized = mxsim.quantize(values, format_name, **arguments)
    at_once = mxsim.fake_quantize(values, format_name, **arguments)

    bits = np.ascontiguousarray(values.astype(np.float32)).view(np.uint32)
    codes, scales, tensor_scale = tensors.quantize(bits, format_name, axis, scale_rule or "floor", rounding, block_size, seed)
    decoded = tensors.dequantize(codes, scales, format_name, axis, block_size, tensor_scale)

    def at(i: int) -> str:
        return f"element {np.unravel_index(i, bits.shape)} = {int(bits.ravel()[i]):#010x}"

    yield compare(f"{what} codes", "exact oracle", quantized.codes, codes, at)
    yield compare(f"{what} scales", "exact oracle", quantized.scales, scales)
    yield compare(f"{what} dequantize", "exact oracle", bits_of(quantized.dequantize()), decoded, at)
    yield compare(f"{what} fake_quantize", "exact oracle", bits_of(at_once), decoded, at)
    if tensor_scale is not None:
        got = np.array([quantized.tensor_scale], np.float32).view(np.uint32)
        yield compare(f"{what} tensor scale", "exact oracle", got, np.array([tensor_scale], np.uint32))


def format_comparisons(format_name: str, rounding: str) -> Iterator[Comparison]:
    """Every scale rule and input dtype over the awkward rows."""
    for scale_rule in rules_of(format_name):
        for dtype_name in DTYPES:
            what = " ".join(filter(None, (format_name, scale_rule, rounding, dtype_name)))
            rows = awkward_rows(dtype_name)
            if format_name == "nvfp4":  # one amax for all: rows of one size at a time say more
                for start in range(0, len(rows), 2):
                    yield from array_comparisons(what, rows[start : start + 2], format_name, rounding=rounding)
            else:
                yield from array_comparisons(what, rows, format_name, scale_rule=scale_rule, rounding=rounding)
    random = random_patterns(16)
    yield from array_comparisons(f"{format_name} {rounding} random bits", random, format_name, rounding=rounding)


def shape_comparisons(format_name: str) -> Iterator[Comparison]:
    """Axes, block sizes, partial last blocks, one and four dimensions, negative strides and broadcasts."""
    rng = np.random.default_rng(8)
    cube = np.ldexp(rng.standard_normal((3, 37, 3)), rng.integers(-9, 9, (3, 37, 1))).astype(np.float32)
    arrays = {
        "3-d": cube,
        "transposed": cube.T,
        "reversed": cube[::-1, ::-2, ::-1],
        "broadcast": np.broadcast_to(cube[:, :, :1], (3, 37, 2)),
        "1-d": cube[1, :, 2],
        "4-d": cube[None, :, 1:, :].reshape(1, 3, 12, 9),
        "single": cube[:1, :1, :1],
    }
    for name, values in arrays.items():
        for axis in (*range(values.ndim), -1):
            for rounding in ("nearest_even", "stochastic"):
                what = f"{format_name} {name} axis {axis} {rounding}"
                yield from array_comparisons(what, values, format_name, axis=axis, rounding=rounding)
    for block_size in (1, 7, 16, 32, 64, 1000):
        what = f"{format_name} block {block_size}"
        yield from array_comparisons(what, cube, format_name, axis=1, block_size=block_size)


def decode_comparisons(format_name: str) -> Iterator[Comparison]:
    """Every pair of an element code and a scale code, through from_codes."""
    element, block_size = conversion.BLOCK_FORMATS[format_name]
    all_codes = np.arange(1 << tensors.ELEMENT_BITS[element], dtype=np.uint8)
    # negative NVFP4 scales are no number of the format: its scale is unsigned
    scales = np.arange(128 if format_name == "nvfp4" else 256, dtype=np.uint8)
    codes = np.broadcast_to(all_codes, (scales.size, all_codes.size))
    blocks = -(-all_codes.size // block_size)
    block_scales = np.broadcast_to(scales[:, None], (scales.size, blocks)).copy()
    tensor_scales = (None, np.float32(1.0), np.float32(0.3), np.float32(2.0**-140)) if format_name == "nvfp4" else (None,)
    for tensor_scale in tensor_scales:
        decoded = mxsim.from_codes(codes, block_scales, format_name, tensor_scale=tensor_scale).dequantize()
        ts_bits = None if tensor_scale is None else int(np.float32(tensor_scale).view(np.uint32))
        want = tensors.dequantize(codes, block_scales, format_name, tensor_scale=ts_bits)
        got = bits_of(decoded)
        # a NaN scale gives the canonical NaN; which NaN a NaN element gives is open
        nan_elements = np.isnan(elements.decode(all_codes, element)) & (scales != scales[-1])[:, None]
        got[nan_elements & np.isnan(decoded)] = numbers.FLOAT32_NAN
        what = f"{format_name} all codes x all scales" + (f", tensor scale {tensor_scale}" if tensor_scale else "")
        yield compare(
            what,
            "exact oracle",
            got,
            want,
            lambda i: f"scale {i // all_codes.size:#x} element {i % all_codes.size:#x}",
        )
