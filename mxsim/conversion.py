"""Arrays to MX tensors and back: the faces over the conversion kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import (
    NAMES,
    axis_last,
    block_in_memory,
    checked_axis,
    checked_floats,
    checked_out,
    gathered,
    padded_rows,
    pieces,
    scatter,
)
from mxsim.errors import MxsimError
from mxsim.formats import BlockFormat, block_format
from mxsim.kernels import conversion as kernels
from mxsim.kernels.dequantisation import dequantize_blocks
from mxsim.kernels.lanes import STREAM_ALIGNMENT
from mxsim.plan import conversion_plan, decoding_plan
from mxsim.policies import Policy, policy_of
from mxsim.tensor import MXTensor

SEEDS = 1 << 64
Place = tuple[np.uint64, npt.NDArray[np.int64], int, int]
NOWHERE: Place = (np.uint64(0), np.zeros(1, np.int64), 1 << 62, 1)  #: where the place of a block does not matter
STREAMED = 1 << 25  #: bytes of an output from which no cache is expected to hold it


def quantize(
    x: npt.NDArray[Any],
    format: str | BlockFormat,
    axis: int = -1,
    policy: str | Policy = "ocp",
    scale_rule: str | None = None,
    rounding: str | None = None,
    block_size: int | None = None,
    seed: int | None = None,
    tensor_scale: float | None = None,
) -> MXTensor:
    """Quantise to blocks along an axis.

    Args:
        x: float32, float16 or bfloat16, at least one dimension, any strides.
        format: a name of mxsim.FORMATS.
        axis: the blocks' axis, of length K; block_size need not divide K: the last block is then shorter.
        policy: a name of mxsim.POLICIES: what the standard leaves open. "ocp" clamps the scale exponent to -127..127, keeps the signs
            of zeros, saturates elements, and marks a block that holds NaN or Inf with scale 0xFF (and element codes 0).
        scale_rule: floor | ceil | rceil | even; None is the policy's own.
        rounding: nearest_even | nearest_away | nearest_zero | toward_zero | stochastic; None is the policy's own.
        block_size: elements to a scale; None is the format's own.
        seed: 0 <= seed < 2^64; for stochastic rounding, and required by it. Equal seeds give equal bits whatever the number of threads
            or the memory layout: element i in C order uses its own word of Philox4x32-10.
        tensor_scale: nvfp4 only: what multiplies the whole tensor; None derives it from the largest magnitude. It is rounded to float32
            once: for a producer that stores the divisor d (compressed-tensors) pass 1 / float(d), and d itself is what divides; so d
            must be finite in float32.
    Returns:
        MXTensor with uint8 codes (x.shape) and uint8 scales (x.shape, `axis` ceil(K / block_size)).
    Raises:
        MxsimError: for anything that is not as said above.
    Source: OCP MX v1.0, 6.3. Exact: bit for bit.
    """
    job = _Job(x, format, axis, policy, scale_rule, rounding, block_size, seed, tensor_scale)
    return job.run()


def quantize_part(
    x: npt.NDArray[Any],
    format: str | BlockFormat,
    axis: int,
    policy: str | Policy,
    scale_rule: str | None,
    rounding: str | None,
    block_size: int | None,
    seed: int | None,
    amax: np.float32 | None,
    first_index: int,
) -> MXTensor:
    """Quantise a slice along the first axis of a tensor too large for memory, to the bits that quantize gives the whole.

    Args: amax: the whole tensor's largest magnitude, as tensor_amax finds it; nvfp4 only. first_index: where x starts in the whole, counted
        in elements. Where axis is the first, x must start at a block. The rest as in quantize.
    """
    job = _Job(x, format, axis, policy, scale_rule, rounding, block_size, seed, None, amax, first_index)
    return job.run()


def tensor_amax(parts: Iterable[npt.NDArray[Any]], format: str | BlockFormat, policy: str | Policy) -> np.float32 | None:
    """The largest magnitude in all parts of a tensor, counted as the policy does for its tensor scale; None for formats without one."""
    spec = block_format(format)
    if not spec.tensor_scale:
        return None
    largest = np.float32(0)
    for part in parts:
        flat = checked_floats(part).reshape(-1)
        rule = policy_of(policy).conversion(spec.name, NAMES[flat.dtype]).two_level
        job = _Job(flat, spec, 0, policy, None, None, None, None, 1.0)
        largest = np.maximum(largest, job._amax(rule is not None and rule.finite_only))
    return largest


def fake_quantize(
    x: npt.NDArray[Any],
    format: str | BlockFormat,
    axis: int = -1,
    policy: str | Policy = "ocp",
    scale_rule: str | None = None,
    rounding: str | None = None,
    block_size: int | None = None,
    seed: int | None = None,
    tensor_scale: float | None = None,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Quantise and dequantise in one pass: the bits of quantize(...).dequantize(), without the codes.

    Args: out: float32 of x.shape, any strides; x itself will do. Made when None. The rest as in quantize.
    Returns: float32, x.shape.
    """
    job = _Job(x, format, axis, policy, scale_rule, rounding, block_size, seed, tensor_scale)
    result = checked_out(out, job.x.shape)
    if out is not None and _overlaps_otherwise(job.x, result):
        np.copyto(
            result,
            fake_quantize(job.x.copy(), job.format, axis, policy, scale_rule, rounding, None, seed, tensor_scale),
        )
    else:
        job.fake_quantize(result)
    return result


def dequantize(tensor: MXTensor, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """The values of an MX tensor: see MXTensor.dequantize."""
    result = checked_out(out, tensor.shape)
    if result.size == 0:
        return result
    block = block_in_memory(tensor.shape[tensor.axis], tensor.block_size)
    codes, scales, values = (axis_last(a, tensor.axis) for a in (tensor.codes, tensor.scales, result))
    plan = decoding_plan(tensor.format, tensor.tensor_scale, tensor.tensor_divisor)
    if codes.shape[-1] % block == 0 and all(a.flags.c_contiguous for a in (codes, scales, values)):
        dequantize_blocks(codes.reshape(-1, block), scales.reshape(-1), values.reshape(-1, block), *plan)
        return result
    for index in pieces(codes.shape):
        rows = padded_rows(codes[index], block)
        buffer = np.empty(rows.shape, np.float32)
        piece_scales = np.ascontiguousarray(scales[index]).reshape(-1)
        dequantize_blocks(rows.reshape(-1, block), piece_scales, buffer.reshape(-1, block), *plan)
        scatter(buffer, values[index])
    return result


def from_codes(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.uint8],
    format: str | BlockFormat,
    axis: int = -1,
    tensor_scale: float | None = None,
    block_size: int | None = None,
    tensor_divisor: float | None = None,
) -> MXTensor:
    """An MX tensor from bits one already has. The arrays are held, not copied.

    Args:
        codes: uint8, any shape of at least one dimension; element codes, right-aligned.
        scales: uint8, the same shape with `axis` ceil(K / block_size). Any code is taken: E8M0 255 means NaN.
        tensor_scale: nvfp4 only; None means 1.
        tensor_divisor: nvfp4 of a producer that stores what divides the block scales, in place of tensor_scale.
    Raises: MxsimError where shapes, dtypes or codes do not fit the format.
    """
    spec = block_format(format, block_size)
    for name, array in (("codes", codes), ("scales", scales)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise MxsimError(f"{name} must be a uint8 array of bits, got {got}: view them with .view(numpy.uint8)")
    if codes.ndim == 0:
        raise MxsimError("codes is 0-dimensional, but blocks lie along an axis: pass codes.reshape(1)")
    axis = checked_axis(axis, codes.ndim)
    expected = _scale_shape(codes.shape, axis, spec.block_size)
    if scales.shape != expected:
        raise MxsimError(
            f"scales has shape {scales.shape}, but codes {codes.shape} in blocks of {spec.block_size} along axis {axis} need {expected}"
        )
    if spec.element.bits < 8 and codes.size and int(codes.max()) >= spec.element.codes:
        raise MxsimError(
            f"codes holds {int(codes.max())}, but {spec.element.name} has codes 0 to {spec.element.codes - 1}: "
            f"unpack packed bytes with mxsim.unpack"
        )
    if tensor_divisor is not None and tensor_scale is not None:
        raise MxsimError("tensor_scale and tensor_divisor are both given: pass the one that the producer stores")
    scale, divisor = _checked_tensor_scale(spec, tensor_scale), _checked_tensor_scale(spec, tensor_divisor, "tensor_divisor")
    multiplier = np.float32(1 if scale is None else scale)
    if divisor is not None:
        with np.errstate(over="ignore"):
            multiplier = np.float32(1) / np.float32(divisor)
    return MXTensor(
        codes=codes,
        scales=scales,
        format=spec,
        axis=axis,
        tensor_scale=multiplier if spec.tensor_scale else None,
        tensor_divisor=None if divisor is None else np.float32(divisor),
    )


class _Job:
    """A checked conversion of one array, which may be a part of a tensor: see quantize_part."""

    def __init__(
        self,
        x: npt.NDArray[Any],
        format: str | BlockFormat,
        axis: int,
        policy: str | Policy,
        scale_rule: str | None,
        rounding: str | None,
        block_size: int | None,
        seed: int | None,
        tensor_scale: float | None,
        amax: np.float32 | None = None,
        first_index: int = 0,
    ) -> None:
        self.amax = amax
        self.first_index = first_index
        self.x = checked_floats(x)
        self.axis = checked_axis(axis, x.ndim)
        self.format = block_format(format, block_size)
        given = _checked_tensor_scale(self.format, tensor_scale)
        if given is not None:
            _check_divisor(given, policy_of(policy), self.format.name, NAMES[self.x.dtype])
        self.moved = axis_last(self.x, self.axis)
        self.block = block_in_memory(self.moved.shape[-1], self.format.block_size)
        self.plan = conversion_plan(self.format, policy, scale_rule, rounding, NAMES[self.x.dtype], given, self._amax)
        self.seed = checked_seed(seed, self.plan.stochastic)

    @property
    def _direct(self) -> bool:
        """Whether the kernels can take the array as it lies."""
        return self.x.dtype == np.float32 and self.moved.flags.c_contiguous and self.moved.shape[-1] % self.block == 0

    def _amax(self, finite_only: bool) -> np.float32:
        """The largest magnitude, among finite numbers or all; 0 where there is none."""
        if self.amax is not None:
            return self.amax
        bits, block = 0, self.block
        if self._direct:
            bits = kernels.tensor_amax_bits(self.moved.reshape(-1, block), finite_only)
        elif self.x.size:
            bits = max(kernels.tensor_amax_bits(rows.reshape(-1, block), finite_only) for _, rows in gathered(self.moved, block))
        return np.float32(np.array(bits, np.int32).view(np.float32))

    def _place(self, index: tuple[int | slice, ...]) -> Place:
        """seed, row_index, blocks_per_row, index_step of quantize_blocks for a piece of the array."""
        if not self.plan.stochastic:
            return NOWHERE
        blocks_per_row = -(-self.moved.shape[-1] // self.block)
        steps = [math.prod(self.x.shape[d + 1 :]) for d in range(self.x.ndim)]
        step = steps.pop(self.axis)
        rows = np.full((1,) * len(steps), self.first_index, np.int64)
        for d, (length, stride) in enumerate(zip(self.moved.shape[:-1], steps, strict=True)):
            along = np.arange(length, dtype=np.int64)[index[d] if d < len(index) else slice(None)]
            rows = rows + np.reshape(along * stride, [-1 if i == d else 1 for i in range(len(steps))])
        return self.seed, rows.reshape(-1), blocks_per_row, step

    def run(self) -> MXTensor:
        codes = np.empty(self.x.shape, np.uint8)
        scales = np.empty(_scale_shape(self.x.shape, self.axis, self.format.block_size), np.uint8)
        self.quantize(codes, scales)
        whole = {"tensor_scale": self.plan.tensor_scale, "tensor_divisor": self.plan.tensor_divisor}
        return MXTensor(codes=codes, scales=scales, format=self.format, axis=self.axis, **whole)

    def quantize(self, codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.uint8]) -> None:
        if self.x.size == 0:
            return
        block, plan = self.block, self.plan
        codes, scales = axis_last(codes, self.axis), axis_last(scales, self.axis)
        if self._direct and codes.flags.c_contiguous and scales.flags.c_contiguous:
            x = self.moved.reshape(-1, block)
            kernels.quantize_blocks(
                x, codes.reshape(-1, block), scales.reshape(-1), plan.grid, plan.scaling, plan.rounding, *self._place(())
            )
            return
        for index, rows in gathered(self.moved, block):
            blocks = rows.reshape(-1, block)
            piece_codes, piece_scales = np.empty(rows.shape, np.uint8), np.empty((len(rows), rows.shape[1] // block), np.uint8)
            kernels.quantize_blocks(
                blocks,
                piece_codes.reshape(-1, block),
                piece_scales.reshape(-1),
                plan.grid,
                plan.scaling,
                plan.rounding,
                *self._place(index),
            )
            scatter(piece_codes, codes[index])
            scatter(piece_scales, scales[index])

    def fake_quantize(self, out: npt.NDArray[np.float32]) -> None:
        if self.x.size == 0:
            return
        block, plan = self.block, self.plan
        out = axis_last(out, self.axis)
        # The compiled loops are vector code only where input and output are different memory.
        if self._direct and out.flags.c_contiguous and not np.may_share_memory(self.x, out):
            kernels.fake_quantize_blocks(
                self.moved.reshape(-1, block),
                out.reshape(-1, block),
                plan.element_values,
                plan.grid,
                plan.scaling,
                plan.rounding,
                *self._place(()),
                out.nbytes >= STREAMED and out.ctypes.data % STREAM_ALIGNMENT == 0,
            )
            return
        result = None
        for index, rows in gathered(self.moved, block):
            result = np.empty_like(rows) if result is None or len(result) != len(rows) else result
            kernels.fake_quantize_blocks(
                rows.reshape(-1, block),
                result.reshape(-1, block),
                plan.element_values,
                plan.grid,
                plan.scaling,
                plan.rounding,
                *self._place(index),
                False,
            )
            scatter(result, out[index])


def checked_seed(seed: int | None, needed: bool) -> np.uint64:
    """The seed of stochastic rounding."""
    if seed is None:
        if needed:
            raise MxsimError("stochastic rounding needs a seed: pass seed=0, say; equal seeds give equal bits")
        return np.uint64(0)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < SEEDS:
        raise MxsimError(f"seed is {seed!r}: pass an integer from 0 to 2^64 - 1")
    return np.uint64(seed)


def _scale_shape(shape: tuple[int, ...], axis: int, block: int) -> tuple[int, ...]:
    return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])


def _overlaps_otherwise(x: npt.NDArray[Any], out: npt.NDArray[Any]) -> bool:
    """Whether out shares x's memory in any way but element on element, where each is read before it is written."""
    if not np.may_share_memory(x, out):
        return False
    return x.strides != out.strides or x.__array_interface__["data"] != out.__array_interface__["data"]


def _checked_tensor_scale(format: BlockFormat, given: float | None, name: str = "tensor_scale") -> float | None:
    """The scale, or the divisor, as given: float32 as soon as it is known whether it divides. Args: name: the argument's."""
    if given is None:
        return None
    if not format.tensor_scale:
        raise MxsimError(f"{format.name} has no tensor scale: leave {name} out, or use nvfp4")
    if isinstance(given, bool) or not isinstance(given, (int, float, np.integer, np.floating)):
        raise MxsimError(f"{name} is {given!r}: pass a number")
    with np.errstate(over="ignore"):
        try:
            number = np.float32(given)
        except OverflowError:
            number = np.float32(np.inf)
    if not (np.isfinite(number) and number > 0):
        raise MxsimError(f"{name} is {given!r}: pass a number that is finite and above 0 in float32")
    return float(given)


def _check_divisor(tensor_scale: float, policy: Policy, format: str, dtype: str) -> None:
    """Refuse a tensor scale whose divisor float32 cannot hold, where the policy stores that."""
    rule = policy.conversion(format, dtype).two_level
    if rule is None or not rule.divides:
        return
    with np.errstate(over="ignore"):
        divisor = np.float32(1 / tensor_scale)
    if not np.isfinite(divisor):
        raise MxsimError(
            f"tensor_scale is {tensor_scale!r}: policy {policy.name!r} divides by {1 / tensor_scale:.6g}, which float32 does not hold: "
            f"pass at least {1 / float(np.finfo(np.float32).max):.3g}"
        )
