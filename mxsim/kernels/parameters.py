"""What the conversion kernels need to know of an element format and of a way to scale, as plain numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NEAREST_EVEN = 0
NEAREST_AWAY = 1
TOWARD_ZERO = 2
STOCHASTIC = 3
NEAREST_ZERO = 4

KEEP = 0
PLUS = 1
MINUS = 2

SCALES = 288  #: rows of a scale table: one for every scale code, and room for what a library treats apart


class ElementGrid(NamedTuple):
    """The numbers an element format can represent in terms of float32 fields, and what becomes of the rest."""

    emin_bits: np.int32  #: float32 bits of 2^emin: below it the quantum no longer shrinks
    magic_bits: np.int32  #: added to a power of two's bits, gives the float32 whose ulp is the quantum at that power
    shift: np.int32  #: 23 - mbits: from float32 exponent bits to element exponent bits
    max_code: np.int32
    max_value: np.float32
    sign_mask: np.int32
    fixed_point: bool  #: codes are two's complement
    slip: np.float32  #: a scaled magnitude just below half the smallest one that is rounded up all the same; 0 for none
    zero_sign: np.int32  #: the sign of a zero result whose scaled input is zero: KEEP, PLUS or MINUS
    underflow_sign: np.int32  #: the sign of one whose scaled input is not
    underflow: np.float32  #: a scaled input no larger than this is zero
    inf_code: np.int32  #: magnitude code of Inf
    nan_code: np.int32  #: code of a NaN element with its sign clear
    negative_nan_code: np.int32  #: with its sign set
    invalid_code: np.int32  #: of Inf divided by a scale of Inf
    nan_scale_code: np.int32  #: of a number under a scale that is NaN
    negative_nan_scale_code: np.int32  #: the same where that NaN's sign is set
    nan_nan_code: np.int32  #: of a NaN, sign clear, under a scale that is NaN
    negative_nan_nan_code: np.int32  #: sign set


class BlockScaling(NamedTuple):
    """How a block's scale follows from its largest magnitude: first a row of the tables below, then what stands in that row.

    E8M0: above[b] where the fraction of amax reaches threshold[b], else below[b], b being its binade: see mxsim.scaling.step_table.
    E4M3: the last row whose first[row] does not exceed the bits of amax, sought from the code of amax / over / under * times.
    A scale is steady for amax bits from steady_from on, below steady_to: an E4M3 scale then has that very code, and an E8M0 scale is 2^k
    with k << 23 = ((amax + carry) & EXPONENT) - fixed.
    """

    below: npt.NDArray[np.int32]  #: (278,)
    above: npt.NDArray[np.int32]  #: (278,)
    threshold: npt.NDArray[np.int32]  #: (278,)
    first: npt.NDArray[np.int32]  #: (129,) ascending from 0, which no block's amax lies below, to the largest int32, which none reaches
    is_e4m3: bool
    after_vanished: np.int32  #: amax bits from which the scale of a block does not come out zero
    vanished: np.int32  #: row of a block below that
    zero: np.int32  #: row of an all-zero block
    inf: np.int32  #: row of a block with Inf and no NaN
    nan: np.int32  #: row of a block with NaN
    codes: npt.NDArray[np.uint8]  #: (SCALES,) the code that is stored
    factors: npt.NDArray[np.float32]  #: (SCALES,) what elements are multiplied by, or divided
    multiply: npt.NDArray[np.bool_]  #: (SCALES,) which of the two: instead of by a power of two or 0, by its reciprocal: as exact
    values: npt.NDArray[np.float32]  #: (SCALES,) what the stored code, with the tensor scale, decodes to
    over: np.float32 = np.float32(1)
    under: np.float32 = np.float32(1)
    times: np.float32 = np.float32(1)
    steady_from: np.int32 = np.int32(0)  #: amax bits
    steady_to: np.int32 = np.int32(0)  #: equal to steady_from where no amax is steady
    carry: np.int32 = np.int32(0)
    fixed: np.int32 = np.int32(0)
