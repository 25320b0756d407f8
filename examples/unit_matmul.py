"""The same MXFP8 product on three matrix units, and how far apart their bits are."""

import numpy as np

import mxsim

random = np.random.default_rng(0)
a = mxsim.quantize(random.standard_normal((32, 1024)).astype(np.float32), "mxfp8_e4m3")
b = mxsim.quantize(random.standard_normal((48, 1024)).astype(np.float32), "mxfp8_e4m3")
exact = mxsim.matmul(a, b.T, unit="mx_exact")  # one rounding of the exact sum
for unit in ("nvidia_blackwell", "mx_fp32_chain"):
    product = mxsim.matmul(a, b.T, unit=unit)
    print(
        f"{unit}: {(product != exact).mean():.1%} of the outputs differ from the exact sum's rounding, by {abs(product - exact).max():.2g}"
    )
