"""A candidate for dmx.quantisers: fake quantisation of CUDA tensors in one pass over memory. Policy ocp, formats with E8M0 scales.

It takes its place there once its bits and its speed are seen on a card (quantisers.py beside this file); until then dmx uses PyTorch's
operations.

A Triton program takes some blocks whole: greatest magnitude, shared exponent, rounding, and back. All of it is float32 arithmetic in which
nothing is lost but what rounding takes: see _fake_quantize.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from mxsim.formats import BlockFormat

#: Blocks that a program takes.
BLOCKS = 64


def fake_quantize_kernel(x: torch.Tensor, format: BlockFormat) -> torch.Tensor:
    """Quantise and dequantise along the last axis, floor scales, nearest even: mxsim.fake_quantize's bits, but for those of NaN in 16 bits.

    Args: x: (..., K) float32, float16 or bfloat16 on a CUDA device, any strides.  format: one with E8M0 scales.
    Returns: x's shape, dtype and device, contiguous.
    """
    element, k = format.element, x.shape[-1]
    source = x.detach().contiguous()
    result = torch.empty_like(source)
    if not source.numel():
        return result
    blocks_per_row = -(-k // format.block_size)
    blocks = source.numel() // k * blocks_per_row
    largest = (2 ** (element.bits - 1) - 1) * 2.0**-element.mbits if element.is_fixed_point else float(element.max)
    with torch.cuda.device(x.device):
        _fake_quantize[(triton.cdiv(blocks, BLOCKS),)](
            source,
            result,
            blocks,
            blocks_per_row,
            k,
            SIZE=format.block_size,
            EMAX=element.emax,
            EMIN=0 if element.is_fixed_point else element.emin,
            MBITS=element.mbits,
            LARGEST=largest,
            FIXED=element.is_fixed_point,
            WHOLE=k % format.block_size == 0,
            BLOCKS=BLOCKS,
        )
    return result


@triton.jit
def _power(exponent):
    """2^exponent for -126 <= exponent <= 127."""
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _fake_quantize(
    source,
    result,
    blocks,
    blocks_per_row,
    k,
    SIZE: tl.constexpr,
    EMAX: tl.constexpr,
    EMIN: tl.constexpr,
    MBITS: tl.constexpr,
    LARGEST: tl.constexpr,
    FIXED: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Powers of two are applied in two halves, so that no factor leaves float32's normal numbers.

    Scaled down, only numbers far below half the smallest element can become subnormal and lose bits: they round to zero all the same.
    Rounding adds and takes away 1.5 * 2^23 quanta: exact sums rounded to nearest even, as an element has fewer than 22 significant bits.
    """
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)[:, None]
    within = tl.arange(0, SIZE)[None, :]
    if WHOLE:
        offset = block * SIZE + within
        mask = block < blocks
    else:
        column = block % blocks_per_row * SIZE + within
        offset = block // blocks_per_row * k + column
        mask = (block < blocks) & (column < k)
    x = tl.load(source + offset, mask=mask, other=0.0).to(tl.float32)
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    amax = tl.max(magnitude, axis=1, keep_dims=True)  # of bits: magnitudes stand in their order
    shared = tl.maximum((amax >> 23) - 127 - EMAX, -127)  # a subnormal maximum is below every scale
    down = -shared >> 1
    scaled = (magnitude.to(tl.float32, bitcast=True) * _power(down)) * _power(-shared - down)
    if FIXED:
        quantum = tl.full(scaled.shape, EMIN - MBITS, tl.int32)
    else:
        quantum = tl.maximum((scaled.to(tl.int32, bitcast=True) >> 23) - 127, EMIN) - MBITS
    magic = _power(quantum + 23) * 1.5
    rounded = tl.minimum((scaled + magic) - magic, LARGEST)
    up = shared >> 1
    value = (rounded * _power(up)) * _power(shared - up)
    word = value.to(tl.int32, bitcast=True) | (bits & -2147483648)
    if FIXED:
        word = tl.where(rounded == 0.0, 0, word)  # two's complement has one zero
    word = tl.where(amax >= 0x7F800000, 0x7FC00000, word)
    tl.store(result + offset, word.to(tl.float32, bitcast=True).to(result.dtype.element_ty), mask=mask)
