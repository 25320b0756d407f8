"""From a format and a policy to the tables that the conversion kernels read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError, unknown_name
from mxsim.formats import ELEMENTS, BlockFormat, ElementFormat
from mxsim.kernels.parameters import (
    KEEP,
    MINUS,
    NEAREST_AWAY,
    NEAREST_EVEN,
    NEAREST_ZERO,
    PLUS,
    SCALES,
    STOCHASTIC,
    TOWARD_ZERO,
    BlockScaling,
    ElementGrid,
)
from mxsim.nvfp4 import TwoLevelScale
from mxsim.policies import EXACT_RULES, Conversion, Policy, Scale, ScaleRule, SpecialCodes, policy_of
from mxsim.scaling import OVERFLOW, step_table

ROUNDINGS = {
    "nearest_even": NEAREST_EVEN,
    "nearest_away": NEAREST_AWAY,
    "nearest_zero": NEAREST_ZERO,
    "toward_zero": TOWARD_ZERO,
    "stochastic": STOCHASTIC,
}
UNDERFLOW = {
    "float32": 0.0,
    "bfloat16": 2.0**-134,
    "float16": 2.0**-25,
}  #: the largest magnitude that a dtype rounds to zero
SIGNIFICAND_BITS = {"float32": 24, "bfloat16": 8, "float16": 11}
SIGNS = {"keep": KEEP, "plus": PLUS, "minus": MINUS}
LARGEST_BITS = 0x7F7FFFFF  #: of the largest finite float32
LEAST_DIVISOR, MOST_DIVISOR = np.float32(2.0**-126), np.float32(2.0**127)
LARGEST_FRACTION = 0x7FFFFF
NEAR = 4  #: how far from an estimate, in float32 bits, a threshold is looked for first
OVERFLOW_ROW, VANISHED_ROW, ZERO_ROW, INF_ROW, NAN_ROW = range(SCALES - 5, SCALES)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a kernel needs for one conversion."""

    grid: ElementGrid
    scaling: BlockScaling
    rounding: int
    element_values: npt.NDArray[np.float32]  #: (256,)
    tensor_scale: np.float32 | None = None  #: what block scales are multiplied by; nvfp4 only
    tensor_divisor: np.float32 | None = None  #: what divides them instead, where the producer stores that

    @property
    def stochastic(self) -> bool:
        return self.rounding == STOCHASTIC


def element_grid(
    element: ElementFormat,
    specials: SpecialCodes | None = None,
    zero_sign: str = "keep",
    underflow_sign: str = "keep",
    underflow: float = 0.0,
    slip: float = 0.0,
) -> ElementGrid:
    """An element format as the kernels see it. specials None: NaN is the format's own, or code 0."""
    codes = specials or SpecialCodes()

    def either(code: int | None, default: int) -> np.int32:
        return np.int32(default if code is None else code)

    nan = either(codes.nan, element.nan_code or 0)
    nan_nan = either(codes.nan_nan, codes.nan_scale)
    return ElementGrid(
        emin_bits=np.int32((127 + element.emin) << 23),
        magic_bits=np.int32((23 - element.mbits) << 23),
        shift=np.int32(23 - element.mbits),
        max_code=np.int32(element.max_code),
        max_value=np.float32(element.max),
        sign_mask=np.int32(element.sign_mask),
        fixed_point=element.is_fixed_point,
        slip=np.float32(slip),
        zero_sign=np.int32(SIGNS[zero_sign]),
        underflow_sign=np.int32(SIGNS[underflow_sign]),
        underflow=np.float32(underflow),
        inf_code=either(codes.inf, element.max_code),
        nan_code=nan,
        negative_nan_code=either(codes.negative_nan, int(nan) | (element.sign_mask if nan else 0)),
        invalid_code=np.int32(codes.invalid),
        nan_scale_code=np.int32(codes.nan_scale),
        negative_nan_scale_code=either(codes.negative_nan_scale, codes.nan_scale),
        nan_nan_code=nan_nan,
        negative_nan_nan_code=either(codes.negative_nan_nan, int(nan_nan)),
    )


@lru_cache(maxsize=64)
def element_values(element: ElementFormat) -> npt.NDArray[np.float32]:
    """(256,) float32: every byte's value, 0 past the last code."""
    values = np.zeros(256, np.float32)
    values[: element.codes] = element.values()
    return values


def conversion_plan(
    format: BlockFormat,
    policy: str | Policy,
    scale_rule: str | None,
    rounding: str | None,
    dtype: str,
    tensor_scale: float | None,
    amax: Callable[[bool], np.float32],
) -> Plan:
    """The plan for quantising an array.

    Args: tensor_scale: nvfp4's, where it is given. amax: finds the array's largest magnitude, among finite numbers or all.
    """
    policy = policy_of(policy)
    conversion = policy.conversion(format.name, dtype)
    if rounding is not None and (not isinstance(rounding, str) or rounding not in ROUNDINGS):
        raise unknown_name("rounding", rounding, ROUNDINGS)
    rules = dict.fromkeys([*EXACT_RULES, *conversion.scale_rules])
    if scale_rule is not None and (not isinstance(scale_rule, str) or scale_rule not in rules):
        raise unknown_name("scale rule", scale_rule, rules)
    name = rounding or conversion.rounding
    if conversion.two_level is None:
        return _block_plan(format.name, format.element, policy, dtype, scale_rule or str(conversion.scale_rule), name)
    if scale_rule is not None:
        raise MxsimError(
            f"{format.name} has no scale rule, got {scale_rule!r}: its E4M3 scale is amax / 6 over the tensor scale; leave it out"
        )
    rule = conversion.two_level
    with np.errstate(all="ignore"):
        if tensor_scale is None:
            tensor = rule.tensor(amax(rule.finite_only), dtype)
        else:
            tensor = np.float32(1 / tensor_scale if rule.divides else tensor_scale)
    return _two_level_plan(format.element, conversion, rule, dtype, name, tensor)


@lru_cache(maxsize=256)
def _block_plan(format: str, element: ElementFormat, policy: Policy, dtype: str, scale_rule: str, rounding: str) -> Plan:
    conversion = policy.conversion(format, dtype)
    rule = conversion.scale_rules.get(scale_rule) or EXACT_RULES[scale_rule]
    grid = _grid(element, conversion, rule.specials or conversion.specials, dtype, rounding)
    return Plan(grid, _e8m0_scaling(rule, element), ROUNDINGS[rounding], element_values(element))


@lru_cache(maxsize=256)
def _two_level_plan(
    element: ElementFormat, conversion: Conversion, rule: TwoLevelScale, dtype: str, rounding: str, tensor: np.float32
) -> Plan:
    grid = _grid(element, conversion, conversion.specials, dtype, rounding)
    scaling = _two_level_scaling(rule, tensor, dtype)
    divisor = tensor if rule.divides else None
    return Plan(grid, scaling, ROUNDINGS[rounding], element_values(element), _multiplier(tensor, rule), divisor)


def _grid(element: ElementFormat, conversion: Conversion, specials: SpecialCodes, dtype: str, rounding: str) -> ElementGrid:
    arithmetic = dtype if conversion.arithmetic == "input" else conversion.arithmetic
    slips = conversion.slips and ROUNDINGS[rounding] in (NEAREST_EVEN, NEAREST_AWAY, NEAREST_ZERO)
    slip = element.smallest / 2 * (1 - 2.0 ** -SIGNIFICAND_BITS[arithmetic]) if slips else 0.0
    return element_grid(element, specials, conversion.zero_sign, conversion.underflow_sign, UNDERFLOW[arithmetic], slip)


def decoding_plan(format: BlockFormat, tensor_scale: np.float32 | None, tensor_divisor: np.float32 | None) -> tuple[object, ...]:
    """The arguments of dequantize_blocks after its arrays."""
    element = format.element
    scales = element_values(format.scale)
    if format.tensor_scale:  # UE4M3: bit 7 means nothing
        scales = np.tile(scales[:128], 2)
    with np.errstate(all="ignore"):
        if tensor_divisor is not None:
            scales = scales / tensor_divisor
        elif tensor_scale is not None:
            scales = scales * tensor_scale
    bias_bits = np.int32((127 - element.bias) << 23)
    quantum = np.float32(2.0 ** (element.emin - element.mbits))
    return element_values(element), scales, element_grid(element), bias_bits, quantum


def _e8m0_scaling(rule: ScaleRule, element: ElementFormat) -> BlockScaling:
    decoded = element_values(ELEMENTS["e8m0"])
    codes, factors = _rows(decoded[:255], ELEMENTS["e8m0"])

    def place(row: int, scale: Scale) -> None:
        codes[row] = scale.code
        factors[row] = decoded[scale.code] if scale.factor is None else scale.factor

    def row_of(code: Any) -> Any:
        return np.where(code < 0, 255 - code, code)

    def rows(exponents: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        clamped = row_of(np.clip(exponents + 127, rule.lowest, rule.highest))
        overflown = (exponents == OVERFLOW) & (rule.overflow is not None)
        return np.where(overflown, OVERFLOW_ROW, clamped).astype(np.int32)

    for code, scale in rule.instead.items():
        place(int(row_of(code)), scale)
    below, above, threshold = step_table(rule.exponent, element)
    after_vanished = 1
    if rule.vanished is not None:
        place(VANISHED_ROW, rule.vanished)
        after_vanished = int(first_bits(lambda amax: rule.exponent(amax, element) > -OVERFLOW, 1)[0])
    if rule.overflow is not None:
        place(OVERFLOW_ROW, rule.overflow)
    place(ZERO_ROW, rule.zero)
    place(NAN_ROW, rule.nan)
    inf_row = INF_ROW
    if rule.inf is not None:
        place(INF_ROW, rule.inf)
    else:
        inf_row = int(rows(rule.exponent(np.array([np.inf], np.float32), element))[0])
    # Every finite factor of an E8M0 scale is a power of two; all but the least have a float32 reciprocal.
    invertible = np.isfinite(factors) & (np.abs(factors) >= 2.0**-127)
    scaling = BlockScaling(
        below=rows(below),
        above=rows(above),
        threshold=threshold.astype(np.int32),
        first=np.zeros(1, np.int32),
        after_vanished=np.int32(after_vanished),
        vanished=np.int32(VANISHED_ROW),
        is_e4m3=False,
        zero=np.int32(ZERO_ROW),
        inf=np.int32(inf_row),
        nan=np.int32(NAN_ROW),
        codes=codes,
        factors=np.where(invertible, np.float32(1) / np.where(invertible, factors, np.float32(1)), factors),
        multiply=invertible,
        values=decoded[codes],
    )
    return _with_steady_e8m0(scaling, element)


def _with_steady_e8m0(scaling: BlockScaling, element: ElementFormat) -> BlockScaling:
    """With the binades around 1 where a scale's exponent is amax's after one addition, as under any rule of exponent and fraction alone.

    Scales that make a quantum subnormal, or the number whose ulp is the largest quantum infinite, are left to the tables.
    """
    one, lowest, highest = 127, element.mbits - element.emin + 1, 254 - 23 + element.mbits - element.emax - 1
    threshold, fixed = int(scaling.threshold[one]), one - int(scaling.below[one])
    binade = np.arange(1, 254)
    rows = binade - fixed
    is_steady = (rows >= lowest) & (rows < highest)
    is_steady &= (scaling.threshold[binade] == threshold) & (scaling.below[binade] == rows)
    is_steady &= (scaling.above[binade] == rows + 1) | (threshold > LARGEST_FRACTION)
    row = np.clip(rows, 0, 253)
    for at in (row, row + 1):
        is_steady &= (scaling.codes[at] == at) & scaling.multiply[at] & (scaling.values[at] == np.ldexp(np.float32(1), at - 127))
        is_steady &= scaling.factors[at] * scaling.values[at] == 1
    if not is_steady[one - 1]:
        return scaling
    unsteady = binade[~is_steady]
    first, last = unsteady[unsteady < one].max(initial=0) + 1, unsteady[unsteady > one].min(initial=254)
    return scaling._replace(
        steady_from=np.int32(max(first << 23, scaling.after_vanished)),
        steady_to=np.int32(last << 23),
        carry=np.int32(LARGEST_FRACTION + 1 - threshold),
        fixed=np.int32((127 + fixed) << 23),
    )


def _two_level_scaling(rule: TwoLevelScale, tensor: np.float32, dtype: str) -> BlockScaling:
    decoded = element_values(ELEMENTS["e4m3"])

    def codes_of(amax: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        scale = np.clip(rule.block(amax, tensor, dtype), np.float32(rule.lowest), np.float32(448))
        return scale.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)

    def vanishes(amax: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Whether a scale comes out as that of a block of zeros does: as zero, or as 0 / 0."""
        scale = rule.block(amax, tensor, dtype)
        is_zero = np.equal(codes_of(amax) if rule.zero_after_cast else scale, 0) & (rule.zero is not None)
        return np.asarray(is_zero | (np.isnan(scale) & (tensor == 0)))

    with np.errstate(all="ignore"):
        wanted = np.arange(128)
        # Each code starts about where amax / 6 over the tensor scale is half way to it: a few steps find the very bit.
        halfway = (decoded[:127] + np.concatenate([np.zeros(1, np.float32), decoded[:126]])) / 2
        near = (halfway * np.float32(6) * _multiplier(tensor, rule)).astype(np.float32).view(np.int32)
        near[decoded[:127] <= rule.lowest] = 0
        first = first_bits(lambda amax: codes_of(amax) >= wanted, 128, np.append(near, LARGEST_BITS))
        first[0] = 0
        may_vanish = rule.zero is not None or tensor == 0
        after_vanished = first_bits(lambda amax: ~vanishes(amax), 1, first[1:2])[0] if may_vanish else 1
        codes, factors = _rows(decoded[:128], ELEMENTS["e4m3"])
        special = rule.block(np.array([0, np.inf], np.float32), tensor, dtype)
        if rule.zero is not None and special[0] == 0:
            special[0] = rule.zero
        codes[ZERO_ROW:NAN_ROW] = special.clip(rule.lowest, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        codes[VANISHED_ROW] = codes[ZERO_ROW]
        codes[NAN_ROW] = rule.nan_code
        if rule.inf_code is not None:
            codes[INF_ROW] = rule.inf_code
        factors[:] = rule.factor(decoded[codes], tensor)
        # The kernels never divide by 0: multiplying by Inf gives the same.
        is_zero_divisor = (factors == 0) & (not rule.multiply)
        factors[is_zero_divisor] = np.inf
        values = decoded[codes] / tensor if rule.divides else decoded[codes] * tensor
        scaling = BlockScaling(
            below=np.zeros(1, np.int32),
            above=np.zeros(1, np.int32),
            threshold=np.zeros(1, np.int32),
            first=np.append(first, np.iinfo(np.int32).max).astype(np.int32),
            after_vanished=np.int32(after_vanished),
            vanished=np.int32(VANISHED_ROW),
            is_e4m3=True,
            zero=np.int32(ZERO_ROW),
            inf=np.int32(INF_ROW),
            nan=np.int32(NAN_ROW),
            codes=codes,
            factors=factors,
            multiply=is_zero_divisor | rule.multiply,
            values=values,
        )
        return _with_steady_e4m3(scaling, _multiplier(tensor, rule), tensor)


def _with_steady_e4m3(scaling: BlockScaling, tensor: np.float32, stored: np.float32) -> BlockScaling:
    """With the one of a few ways to compute a scale that agrees with the table of first amaxes over the widest range.

    Args: tensor: what multiplies the scales. stored: what the producer stores for it.
    """
    rows, first = np.arange(127), scaling.first[:128]
    usable = (first[:127] >= max(int(scaling.after_vanished), 1)) & np.isfinite(scaling.factors[:127]) & np.isfinite(scaling.values[:127])
    six, one, best = np.float32(6), np.float32(1), len(rows) + 1
    for numbers in ((six, tensor, one), (six * tensor, one, one), (six, one, stored)):
        over, under, times = (np.clip(np.nan_to_num(number), LEAST_DIVISOR, MOST_DIVISOR) for number in numbers)
        found, before = (
            np.minimum(bits.view(np.float32) / over / under * times, np.float32(448)).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
            for bits in (first[:127], first[1:] - 1)
        )
        # What is computed and the table both rise with amax: they agree between two firsts where they do at both ends.
        wrong = rows[~(usable & (found == rows) & (before == rows))]
        lowest = int(wrong.max(initial=-1)) + 1
        if lowest < best:
            best = lowest
            scaling = scaling._replace(over=over, under=under, times=times, steady_from=first[lowest], steady_to=first[127])
    return scaling


def first_bits(
    reached: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.bool_]], count: int, near: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.int64]:
    """(count,): bits of the smallest positive float32 for which each of `count` rising conditions holds; those of Inf where none does.

    Args: reached: from float32 (..., count) to booleans. near: (count,) bits to look around first: where they are right to within NEAR,
        that is all.
    """
    low, high = np.zeros(count, np.int64), np.full(count, LARGEST_BITS + 1, np.int64)
    if near is not None:
        around = np.clip(near + np.arange(-NEAR, NEAR + 1)[:, None], 1, LARGEST_BITS)
        now = reached(around.astype(np.int32).view(np.float32))
        high, low = np.where(now, around, high).min(0), np.where(now, low, around).max(0)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        now = reached(middle.astype(np.int32).view(np.float32))
        high, low = np.where(now, middle, high), np.where(now, low, middle)
    return high


def _rows(decoded: npt.NDArray[np.float32], scale: ElementFormat) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Tables (codes, factors) whose first rows are the finite scale codes themselves."""
    codes, factors = np.zeros(SCALES, np.uint8), np.full(SCALES, np.nan, np.float32)
    codes[: decoded.size] = np.arange(decoded.size)
    factors[: decoded.size] = decoded
    return codes, factors


def _multiplier(tensor: np.float32, rule: TwoLevelScale) -> np.float32:
    """From the number that a producer stores for a tensor to the one that multiplies."""
    with np.errstate(all="ignore"):
        return np.float32(1) / tensor if rule.divides else tensor
