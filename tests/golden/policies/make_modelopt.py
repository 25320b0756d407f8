"""Golden bytes of the MXFP4, MXFP8 and NVFP4 weights NVIDIA ModelOpt exports, on CPU. Runs in its environment.

MXFP6 and MXINT8 exist in ModelOpt as fake quantisation on CUDA only, so they are not here. See README.md.
"""

import inputs
import modelopt
import numpy as np
import torch
from amax_steps import alone, amax_steps
from modelopt.torch.quantization.qtensor import MXFP4QTensor, MXFP8QTensor, NVFP4QTensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def quantize(bits: np.ndarray, dtype: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    weight = torch.from_numpy(bits.copy()).view(DTYPES[dtype])
    if name == "mxfp4_e2m1":
        tensor, scales = MXFP4QTensor.quantize(weight, block_size=inputs.BLOCK)
        codes = inputs.nibbles(tensor._quantized_data.numpy())
    else:
        tensor, scales = MXFP8QTensor.quantize(weight)
        codes = tensor._quantized_data.view(torch.uint8).numpy()
    return codes, scales.numpy().reshape(len(bits), -1)


def main() -> None:
    values = inputs.load()
    golden: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        for name in ("mxfp4_e2m1", "mxfp8_e4m3"):
            key = f"{dtype}/{name}/default"
            golden[f"{key}/codes"], golden[f"{key}/scales"] = quantize(values[f"{dtype}/values"], dtype, name)

            def scale_code(amax: np.ndarray, dtype: str = dtype, name: str = name) -> np.ndarray:
                return quantize(alone(amax), dtype, name)[1].reshape(-1)

            golden[f"{key}/amax_bits"], golden[f"{key}/amax_codes"] = amax_steps(dtype, scale_code)
        tensors = [NVFP4QTensor.quantize(x, 16) for x in torch.from_numpy(values[f"{dtype}/nvfp4"]).view(DTYPES[dtype])]
        key = f"{dtype}/nvfp4/default"
        golden[f"{key}/codes"] = np.stack([inputs.nibbles(t._quantized_data.numpy()) for t, _, _ in tensors])
        golden[f"{key}/scales"] = np.stack([scale.view(torch.uint8).numpy() for _, scale, _ in tensors])
        golden[f"{key}/tensor_scale_bits"] = np.stack([scale.numpy().view(np.uint32) for _, _, scale in tensors])
    inputs.save(
        "modelopt",
        golden,
        version=modelopt.__version__,
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        default=dict.fromkeys(("mxfp4_e2m1", "mxfp8_e4m3", "nvfp4"), "default"),
    )


if __name__ == "__main__":
    main()
