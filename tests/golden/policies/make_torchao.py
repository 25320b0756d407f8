"""Golden bytes of torchao's MX and NVFP4 conversions on CPU, eager. Runs in torchao's environment; see README.md."""

import inputs
import numpy as np
import torch
import torchao
from amax_steps import alone, amax_steps
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
from torchao.prototype.mx_formats.mx_tensor import to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale

FORMATS = {
    "mxfp4_e2m1": torch.float4_e2m1fn_x2,
    "mxfp6_e2m3": DTYPE_FP6_E2M3,
    "mxfp6_e3m2": DTYPE_FP6_E3M2,
    "mxfp8_e4m3": torch.float8_e4m3fn,
    "mxfp8_e5m2": torch.float8_e5m2,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def quantize(bits: np.ndarray, dtype: str, element: object, mode: str) -> tuple[np.ndarray, np.ndarray]:
    x = torch.from_numpy(bits.copy()).view(DTYPES[dtype])
    scales, codes = to_mx(x, element, inputs.BLOCK, ScaleCalculationMode(mode))
    codes = codes.view(torch.uint8).numpy()
    if element is torch.float4_e2m1fn_x2:
        codes = inputs.nibbles(codes)
    return codes, scales.view(torch.uint8).numpy()


def main() -> None:
    values = inputs.load()
    golden: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        for name, element in FORMATS.items():
            for mode in ("floor", "rceil", "ceil", "even"):
                key = f"{dtype}/{name}/{mode}"
                golden[f"{key}/codes"], golden[f"{key}/scales"] = quantize(values[f"{dtype}/values"], dtype, element, mode)

                def scale_code(amax: np.ndarray, dtype: str = dtype, element: object = element, mode: str = mode) -> np.ndarray:
                    return quantize(alone(amax), dtype, element, mode)[1].reshape(-1)

                golden[f"{key}/amax_bits"], golden[f"{key}/amax_codes"] = amax_steps(dtype, scale_code)
        tensors = torch.from_numpy(values[f"{dtype}/nvfp4"]).view(DTYPES[dtype])
        for mode in ("one_level", "two_level"):
            codes, scales, tensor_scales = [], [], []
            for x in tensors:
                tensor_scale = per_tensor_amax_to_scale(x.abs().amax()) if mode == "two_level" else None
                scale, code = nvfp4_quantize(x, 16, tensor_scale)
                codes.append(inputs.nibbles(code.numpy()))
                scales.append(scale.view(torch.uint8).numpy())
                tensor_scales.append(np.float32(1) if tensor_scale is None else tensor_scale.numpy())
            key = f"{dtype}/nvfp4/{mode}"
            golden[f"{key}/codes"], golden[f"{key}/scales"] = np.stack(codes), np.stack(scales)
            golden[f"{key}/tensor_scale_bits"] = np.array(tensor_scales, np.float32).view(np.uint32)
    inputs.save(
        "torchao",
        golden,
        version=torchao.__version__,
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        default=dict.fromkeys(FORMATS, "floor") | {"nvfp4": "two_level"},
    )


if __name__ == "__main__":
    main()
