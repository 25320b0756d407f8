"""Whether a policy explains a stored weight: the float weight quantised anew, its bits held against those in the file, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import STORED
from mxsim.causes import DifferingBlocks, Mismatches, count_causes
from mxsim.checkpoints.layout import QuantizedTensor
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.conversion import quantize
from mxsim.errors import MxsimError
from mxsim.kernels import validation as kernels
from mxsim.nvfp4 import TwoLevelScale
from mxsim.plan import Plan, conversion_plan
from mxsim.policies import POLICIES

PIECE = 1 << 22  #: elements at a time

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy, with the scale rule that the config names where it is not the policy's own."""

    policy: str
    scale_rule: str | None = None

    def __str__(self) -> str:
        return self.policy if self.scale_rule is None else f"{self.policy}, scale rule {self.scale_rule}"


def candidates(first: list[Rule]) -> list[Rule]:
    """Every rule worth trying: the given ones first, then each policy's own, then the other scale rules."""
    rules = [*first, *(Rule(name) for name in POLICIES)]
    for name, policy in POLICIES.items():
        for conversion in policy.conversions:
            rules += [Rule(name, rule) for rule in conversion.scale_rules if rule != conversion.scale_rule]
    return list(dict.fromkeys(rules))


class FloatWeight:
    """The float tensor that a stored weight was made of, as rows along its blocks' axis."""

    def __init__(self, stored: StoredTensor, transposed: bool) -> None:
        self.stored = stored
        array = stored.array()
        array = np.swapaxes(array, -1, -2) if transposed else array
        self.shape = array.shape
        self._array = array.reshape(-1, array.shape[-1]) if array.ndim == 2 or not transposed else None
        self._stack = array

    @property
    def dtype(self) -> str:
        return self._stack.dtype.name

    def rows(self, rows: slice) -> npt.NDArray[Any]:
        """(n, K) in the tensor's own dtype, aligned."""
        if self._array is not None:
            part = self._array[rows]
        else:  # a stack of matrices, each transposed: rows are taken from one matrix after the other
            height = self._stack.shape[-2]
            first, last = rows.start // height, -(-rows.stop // height)
            whole = self._stack[first:last].reshape(-1, self._stack.shape[-1])
            part = whole[rows.start - first * height : rows.stop - first * height]
        return part if part.flags.aligned else part.copy()

    def amax(self, finite_only: bool) -> np.float32:
        """The largest magnitude, Inf and NaN left out or not."""
        flat = self.stored.array().reshape(-1)
        bits = 0
        for start in range(0, flat.size, PIECE):
            part = flat[start : start + PIECE]
            part = part if part.flags.aligned else part.copy()
            whole = part.size // 64 * 64
            for piece in (part[:whole].reshape(-1, 64), part[whole:].reshape(1, -1)):
                if piece.size:
                    bits = max(bits, int(kernels.largest_bits(piece.view(STORED[piece.dtype]), finite_only)))
            self.stored.release()
        return np.float32(np.array(bits, np.int32).view(np.float32))


def row_slices(weight: QuantizedTensor) -> Iterator[slice]:
    """Rows in pieces of about PIECE elements."""
    step = max(PIECE // max(weight.columns, 1), 1)
    for start in range(0, weight.rows, step):
        yield slice(start, min(start + step, weight.rows))


def two_level(rule: Rule, dtype: str) -> TwoLevelScale:
    """How a policy finds nvfp4's tensor scale; MxsimError where it has none."""
    found = POLICIES[rule.policy].conversion("nvfp4", dtype).two_level
    assert found is not None, "the nvfp4 conversion of every policy has two levels: tests/mxsim/test_policies.py"
    return found


def tensor_scale_bits(weight: QuantizedTensor, rule: Rule, amax: np.float32, dtype: str) -> int:
    """The float32 bits that a policy stores for a tensor of a largest magnitude, as multiplier or divisor like the stored one."""
    found = two_level(rule, dtype)
    with np.errstate(all="ignore"):
        number = found.tensor(amax, dtype)
        number = number if found.divides == weight.divides else np.float32(1) / number
    return int(np.float32(number).view(np.uint32))


def plan_of(weight: QuantizedTensor, rule: Rule, dtype: str) -> Plan:
    """The conversion under the stored tensor scale. Raises: MxsimError where the policy has none for the format and dtype."""

    def unused(finite_only: bool) -> np.float32:
        raise AssertionError("the tensor scale is given")

    return conversion_plan(weight.spec, rule.policy, rule.scale_rule, None, dtype, given_tensor_scale(weight), unused)


def given_tensor_scale(weight: QuantizedTensor) -> float | None:
    """The stored tensor scale as mxsim.quantize takes it: what multiplies, not yet rounded where a divisor is stored."""
    stored = weight.stored_tensor_scale()
    if stored is None:
        return None
    if not (np.isfinite(stored) and stored > 0):
        raise MxsimError(f"its tensor scale is {stored}: a finite number above 0 is expected")
    return 1 / float(stored) if weight.divides else float(stored)


def explain(
    weight: QuantizedTensor, reference: FloatWeight, rule: Rule, most: int | None = None, advance: Advance = lambda n: None
) -> Mismatches:
    """Hold a stored weight's elements and block scales against a rule, under the tensor scale that is stored.

    Args: most: stop once there are more mismatches than this. advance: told the bytes of reference done, as they are.
    Raises: MxsimError where the policy cannot convert the reference's dtype to the format.
    """
    mismatches = Mismatches()
    plan = plan_of(weight, rule, reference.dtype)
    for rows in row_slices(weight):
        differs = differing(weight, reference, rule, plan, rows)
        if differs.any():
            for blocks in gathered(weight, reference, rule, rows, differs):
                count_causes(blocks, weight.spec, weight.multiplier(), mismatches)
        for part in (weight.elements, weight.scales, reference.stored):
            part.release()
        advance((rows.stop - rows.start) * weight.columns * reference.stored.array().itemsize)
        if most is not None and mismatches.count > most:
            break
    _recognise_offset(weight, mismatches)
    return mismatches


def differing(weight: QuantizedTensor, reference: FloatWeight, rule: Rule, plan: Plan, rows: slice) -> npt.NDArray[np.bool_]:
    """(n, blocks): which blocks of some rows differ from the rule's."""
    x, block = reference.rows(rows), weight.spec.block_size
    elements, scales = weight.packed_rows[rows], weight.scale_rows[rows]
    if weight.packing == "row" and weight.columns % block == 0 and x.flags.c_contiguous and not plan.stochastic:
        differs = np.empty(scales.size, np.uint8)
        kernels.compare_blocks(
            x.view(STORED[x.dtype]).reshape(-1, block),
            elements.reshape(-1, block * weight.spec.element.bits // 8),
            scales.reshape(-1),
            differs,
            plan.grid,
            plan.scaling,
            plan.rounding,
            weight.spec.element.bits,
        )
        return differs.reshape(scales.shape).astype(np.bool_)
    expected = _requantized(weight, rule, x)
    codes = _blocks(expected.codes, block) != _blocks(weight.codes(rows), block)
    return np.asarray(codes.any(axis=-1) | (expected.scales != weight.scale_codes(rows)), np.bool_)


def gathered(
    weight: QuantizedTensor, reference: FloatWeight, rule: Rule, rows: slice, differs: npt.NDArray[np.bool_]
) -> Iterator[DifferingBlocks]:
    """The blocks that differ, with what they should be; a bounded number at a time."""
    block = weight.spec.block_size
    step = max((1 << 20) // weight.columns, 1)
    for start in range(0, len(differs), step):
        where = np.argwhere(differs[start : start + step])
        if not len(where):
            continue
        part = slice(rows.start + start, min(rows.start + start + step, rows.stop))
        row, index = where[:, 0], where[:, 1]
        x = _blocks(reference.rows(part), block)[row, index]
        expected = _requantized(weight, rule, x)
        length = np.minimum(weight.columns - index * block, block)
        yield DifferingBlocks(
            row=row + part.start,
            block=index,
            x=x.astype(np.float32),
            inside=np.arange(block) < length[:, None],
            expected_codes=expected.codes,
            found_codes=_blocks(weight.codes(part), block)[row, index],
            expected_scales=expected.scales[:, 0],
            found_scales=weight.scale_codes(part)[row, index],
        )


def _requantized(weight: QuantizedTensor, rule: Rule, x: npt.NDArray[Any]) -> Any:
    return quantize(
        x,
        weight.spec,
        policy=rule.policy,
        scale_rule=rule.scale_rule,
        tensor_scale=given_tensor_scale(weight),
    )


def _blocks(rows: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    """(n, K) as (n, ceil(K / block), block), zeros past the end."""
    n, length = rows.shape
    whole = -(-length // block) * block
    if whole != length:
        padded = np.zeros((n, whole), rows.dtype)
        padded[:, :length] = rows
        rows = padded
    return rows.reshape(n, -1, block)


def _recognise_offset(weight: QuantizedTensor, mismatches: Mismatches) -> None:
    """Where every block's scale is off by the same number of steps, say so: that is no rule but an offset applied wrongly."""
    if len(mismatches.offsets) != 1:
        return
    ((offset, blocks),) = mismatches.offsets.items()
    if abs(offset) < 1 or blocks < 0.9 * weight.rows * weight.scale_rows.shape[1]:
        return
    moved = ("other", "scale rule")
    mismatches.add("scale offset", sum(mismatches.causes.pop(cause, 0) for cause in moved))
    mismatches.examples = [replace(e, cause="scale offset") if e.cause in moved else e for e in mismatches.examples]
