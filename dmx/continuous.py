"""The paper's relaxation: exponent and significand bits that slide, with gradients in closed form instead of a graph of floors and logs.

A format E(e) M(m) with real e and m has bias 2^(e-1) - 1, its largest binade 2^(e-1), and max = (2 - 2^-m) 2^(2^(e-1)), at most 448.
Between two formats of the ladder e and m move on a straight line, at whose ends the values are the formats' own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from dmx.errors import DmxError
from mxsim.formats import FORMATS, BlockFormat
from mxsim.storage_formats import WIDE

BLOCK = 32
POLICY = "ocp"  #: whose scales and rounding slide
LN2 = math.log(2.0)
LARGEST = 448.0  #: E4M3's, which gives its topmost code to NaN
SMALLEST_SCALE = 2.0**-127  #: E8M0's


def field_widths(formats: Sequence[str], policy: str = POLICY) -> list[tuple[int, int]]:
    """(exponent bits, significand bits) of each format.

    Raises: DmxError for one that the relaxation does not pass through, and for a policy that it does not end at.
    """
    if policy != POLICY:
        raise DmxError(
            f"bits slide by policy {POLICY} alone, and would not end at the values of {policy}: take relaxation mix, or {POLICY}"
        )
    found = []
    for name in formats:
        if name == WIDE or not _is_on_the_path(FORMATS[name]):
            raise DmxError(f"sliding bits do not pass through {name}: take MXFP4, MXFP6 or mxfp8_e4m3, or relaxation mix")
        element = FORMATS[name].element
        found.append((element.ebits, element.mbits))
    return found


def _is_on_the_path(format: BlockFormat) -> bool:
    element = format.element
    return not (element.is_fixed_point or format.tensor_scale or element.name == "e5m2") and format.block_size == BLOCK


def sliding(x: torch.Tensor, e: float, m: float, *, floored: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantise to E(e) M(m), both real, in blocks of 32 along the last axis.

    Floors and rounds pass gradients through: the derivatives are those of the same expressions without them.

    Args: x: (..., K) float32.  floored: the scale's divisor is a power of two, 2^floor(log2 max), as in the published code; else
        2^(2^(e-1)), which moves without jumps and keeps the error nearly monotone.
    Returns: y, dy/de, dy/dm, and where x passes its gradient (1 where it is not saturated), each of x's shape. A block with an infinity or
        a NaN is NaN, as that of a format.
    """
    k = x.shape[-1]
    values = torch.nn.functional.pad(x.detach().float(), (0, -k % BLOCK)).unflatten(-1, (-1, BLOCK))
    top = 2.0 ** (e - 1)
    unlimited = (2 - 2.0**-m) * 2.0**top
    largest, is_limited = min(unlimited, LARGEST), unlimited > LARGEST
    divisor = 2.0 ** math.floor(math.frexp(largest)[1] - 1) if floored else 2.0**top
    amax = values.abs().amax(-1, keepdim=True)
    binade = torch.ldexp(torch.ones_like(amax), torch.frexp(amax).exponent - 1)
    scale = torch.where(amax > 0, (binade / divisor).clamp_min(SMALLEST_SCALE), torch.ones_like(amax))
    scaled = values / scale
    lowest = 2 - top  # the smallest normal binade: 1 - bias
    own = (torch.frexp(scaled).exponent - 1).float()
    is_subnormal = (own < lowest) | (scaled == 0)
    quantum = torch.exp2(torch.where(is_subnormal, torch.full_like(own, lowest), own) - m)
    rounded = torch.round(scaled / quantum) * quantum
    is_saturated = rounded.abs() > largest
    y = torch.where(amax.isfinite(), rounded.clamp(-largest, largest) * scale, math.nan)
    error = values - y

    # How log2 of the largest value and of the scale's divisor move. A normal's step is a share of itself and knows neither.
    largest_by_e, largest_by_m = (0.0, 0.0) if is_limited else (LN2 * top, 2.0**-m / (2 - 2.0**-m))
    divisor_by_e, divisor_by_m = (largest_by_e, largest_by_m) if floored else (LN2 * top, 0.0)
    limit = LN2 * y  # of a saturated element, which follows the largest value and the scale
    by_m = torch.where(is_subnormal, LN2 * (1 + divisor_by_m) * error, LN2 * error)
    by_m = torch.where(is_saturated, (largest_by_m - divisor_by_m) * limit, by_m)
    # Of a subnormal both the scale and the smallest binade move with e.
    by_e = torch.where(is_subnormal, LN2 * (LN2 * top + divisor_by_e) * error, torch.zeros_like(y))
    by_e = torch.where(is_saturated, (largest_by_e - divisor_by_e) * limit, by_e)
    flat = [part.flatten(-2)[..., :k].contiguous().to(x.dtype) for part in (y, by_e, by_m, (~is_saturated).float())]
    return flat[0], flat[1], flat[2], flat[3]


def sliding_operand(
    x: torch.Tensor, degrees: torch.Tensor, widths: Sequence[tuple[int, int]], *, floored: bool
) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """An operand part of the way up the ladder.

    Args: degrees: (formats - 1,) falling.  widths: field_widths of the ladder.
    Returns: the value; its derivative by each degree; where x passes its gradient.
    """
    e, m = (float(width) for width in widths[0])
    ways = []
    for degree, (low, high) in zip(degrees.tolist(), pairwise(widths), strict=True):
        way = (high[0] - low[0], high[1] - low[1])
        ways.append(way)
        e, m = e + degree * way[0], m + degree * way[1]
    y, by_e, by_m, passes = sliding(x, e, m, floored=floored)
    return y, [by_e * de + by_m * dm for de, dm in ways], passes
