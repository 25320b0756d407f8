"""Golden values of microxcaling's CPU path (no custom CUDA). Runs with a checkout of its repository on PYTHONPATH.

microxcaling only fake-quantises and returns no scale: the results are stored as the bits of the input dtype under
"values" (the rows ahead of the sweep), the scale bytes come from its _shared_exponents and the bounds that
_quantize_mx sets to it. "dither" is random and left out. See README.md for how the committed file was made.
"""

import os

import inputs
import numpy as np
import torch
from amax_steps import alone, amax_steps
from mx.formats import _get_format_params
from mx.mx_ops import _quantize_mx, _shared_exponents

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BITS = {"float32": torch.uint32, "bfloat16": torch.uint16}
FORMATS = {
    "mxfp4_e2m1": "fp4_e2m1",
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp6_e3m2": "fp6_e3m2",
    "mxfp8_e4m3": "fp8_e4m3",
    "mxfp8_e5m2": "fp8_e5m2",
    "mxint8": "int8",
}
SCALE_EMAX = 127  # scale_bits = 8


def scale_bytes(bits: np.ndarray, dtype: str, element: str) -> np.ndarray:
    x = torch.from_numpy(bits.copy()).view(DTYPES[dtype]).reshape(len(bits), -1, inputs.BLOCK)
    exponent = _shared_exponents(x, axes=[2])[..., 0].float() - _get_format_params(element)[2]
    exponent = torch.where(exponent > SCALE_EMAX, torch.nan, exponent.clamp(min=-SCALE_EMAX))
    return torch.where(exponent.isnan(), 255, exponent.nan_to_num() + 127).to(torch.uint8).numpy()


def main() -> None:
    values = inputs.load()
    golden: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        bits = values[f"{dtype}/values"]
        before_sweep = values[f"{dtype}/section"] < inputs.SECTIONS.index("sweep")
        for name, element in FORMATS.items():
            golden[f"{dtype}/{name}/scales"] = scale_bytes(bits, dtype, element)
            for rounding in ("nearest", "even", "floor"):
                x = torch.from_numpy(bits[before_sweep]).view(DTYPES[dtype])
                result = _quantize_mx(x, 8, element, axes=[-1], block_size=inputs.BLOCK, round=rounding)
                golden[f"{dtype}/{name}/{rounding}/values"] = result.contiguous().view(BITS[dtype]).numpy()

            def scale_code(amax: np.ndarray, dtype: str = dtype, element: str = element) -> np.ndarray:
                return scale_bytes(alone(amax), dtype, element).reshape(-1)

            key = f"{dtype}/{name}"
            golden[f"{key}/amax_bits"], golden[f"{key}/amax_codes"] = amax_steps(dtype, scale_code)
    inputs.save(
        "microxcaling",
        golden,
        version=os.environ["MICROXCALING_SOURCE"],
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        default=dict.fromkeys(FORMATS, "nearest"),
    )


if __name__ == "__main__":
    main()
