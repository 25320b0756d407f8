"""Quantise a matrix under two producers' policies, and count the bits in which they differ."""

import numpy as np

import mxsim

x = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
for format in ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3"):
    ours, theirs = mxsim.quantize(x, format), mxsim.quantize(x, format, policy="quark")
    decibels = 10 * np.log10(np.square(x).sum() / np.square(x - ours.dequantize()).sum())
    print(f"{format}: {decibels:.1f} dB; under quark {(ours.scales != theirs.scales).mean():.1%} of the scales are others")
