"""Golden bytes of compressed-tensors' preset schemes on CPU. Runs in compressed-tensors' environment; see README.md.

Scales come from the library's amin/amax and calculate_qparams, codes from the compressor of the on-disk format, both
on tensors of the model's own dtype, which is what llm-compressor does to a weight.
"""

import compressed_tensors
import inputs
import numpy as np
import torch
from amax_steps import alone, amax_steps
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp, generate_gparam

FORMATS = {
    "mxfp4_e2m1": ("MXFP4A16", "mxfp4-pack-quantized"),
    "mxfp6_e2m3": ("MXFP6A16", "mxfp6-pack-quantized"),
    "mxfp8_e4m3": ("MXFP8A16", "mxfp8-quantized"),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def compress(
    weight: torch.Tensor, scheme: QuantizationScheme, name: str, global_scale: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    scale, _ = compute_dynamic_scales_and_zp(weight, scheme.weights, None, global_scale)
    state = {"weight": weight, "weight_scale": scale.to(weight.dtype)}
    if global_scale is not None:
        state["weight_global_scale"] = global_scale
    return BaseCompressor.get_value_from_registry(name).compress(state, scheme)


def quantize(bits: np.ndarray, dtype: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    preset, compressor = FORMATS[name]
    weight = torch.from_numpy(bits.copy()).view(DTYPES[dtype])
    state = compress(weight, preset_name_to_scheme(preset, ["Linear"]), compressor)
    packed = state.get("weight_packed", state.get("weight")).view(torch.uint8).numpy()
    codes = {"mxfp4_e2m1": inputs.nibbles, "mxfp6_e2m3": inputs.sixes}.get(name, np.asarray)(packed)
    return codes, state["weight_scale"].numpy()


def main() -> None:
    values = inputs.load()
    golden: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        for name in FORMATS:
            key = f"{dtype}/{name}/default"
            golden[f"{key}/codes"], golden[f"{key}/scales"] = quantize(values[f"{dtype}/values"], dtype, name)

            def scale_code(amax: np.ndarray, dtype: str = dtype, name: str = name) -> np.ndarray:
                return quantize(alone(amax), dtype, name)[1].reshape(-1)

            golden[f"{key}/amax_bits"], golden[f"{key}/amax_codes"] = amax_steps(dtype, scale_code)
        states = []
        for x in torch.from_numpy(values[f"{dtype}/nvfp4"]).view(DTYPES[dtype]):
            global_scale = generate_gparam(x.amin(), x.amax())
            states.append(compress(x, preset_name_to_scheme("NVFP4A16", ["Linear"]), "nvfp4-pack-quantized", global_scale))
        key = f"{dtype}/nvfp4/default"
        golden[f"{key}/codes"] = np.stack([inputs.nibbles(s["weight_packed"].numpy()) for s in states])
        golden[f"{key}/scales"] = np.stack([s["weight_scale"].view(torch.uint8).numpy() for s in states])
        golden[f"{key}/tensor_scale_bits"] = np.stack([s["weight_global_scale"].numpy().view(np.uint32) for s in states])
    inputs.save(
        "compressed-tensors",
        golden,
        version=compressed_tensors.__version__,
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        default=dict.fromkeys((*FORMATS, "nvfp4"), "default"),
    )


if __name__ == "__main__":
    main()
