"""Golden bytes of AMD Quark's OCP MX types on CPU. Runs in Quark's environment (a C++ compiler at hand); see README.md.

FP4 and FP6 take the export path (observer, real quantiser, packing, scale bytes). Quark only fake-quantises MXFP8 and
MXINT8: for these the result is stored as the bits of the input dtype under "values", for the default mode alone.
"""

import inputs
import numpy as np
import quark
import torch
from amax_steps import alone, amax_steps
from quark.torch.export.nn.modules.realquantizer import StaticScaledRealQuantizer
from quark.torch.quantization.config import config
from quark.torch.quantization.tensor_quantize import StaticScaledFakeQuantize
from quark.torch.quantization.utils import even_round
from quark.torch.utils.numerics import to_e8m0_uint8

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BITS = {"float32": torch.uint32, "bfloat16": torch.uint16, "float16": torch.uint16}
PACKED = {
    "mxfp4_e2m1": (config.OCP_MXFP4Spec, inputs.nibbles),
    "mxfp6_e2m3": (config.OCP_MXFP6E2M3Spec, inputs.sixes),
    "mxfp6_e3m2": (config.OCP_MXFP6E3M2Spec, inputs.sixes),
}
FAKE = {"mxfp8_e4m3": config.OCP_MXFP8E4M3Spec, "mxfp8_e5m2": config.OCP_MXFP8E5M2Spec}


def tensor(bits: np.ndarray, dtype: str) -> torch.Tensor:
    return torch.from_numpy(bits.copy()).view(DTYPES[dtype])


def observe(x: torch.Tensor, spec: type, mode: str) -> StaticScaledFakeQuantize:
    quantizer = StaticScaledFakeQuantize(
        spec(ch_axis=-1, is_dynamic=False, scale_calculation_mode=mode).to_quantization_spec(), torch.device("cpu")
    )
    quantizer.observe(x)
    return quantizer


def scale_bytes(bits: np.ndarray, dtype: str, spec: type, mode: str) -> np.ndarray:
    return to_e8m0_uint8(observe(tensor(bits, dtype), spec, mode).scale).numpy()


def main() -> None:
    values = inputs.load()
    golden: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        x = tensor(values[f"{dtype}/values"], dtype)
        for name, spec in {**{name: spec for name, (spec, _) in PACKED.items()}, **FAKE}.items():
            for mode in ("even", "floor", "ceil"):
                key = f"{dtype}/{name}/{mode}"
                quantizer = observe(x, spec, mode)
                if name in PACKED:
                    exporter = StaticScaledRealQuantizer(quantizer.observer.qspec, quantizer, True, True, x.dtype, torch.device("cpu"))
                    golden[f"{key}/codes"] = PACKED[name][1](exporter.to_real_quantize_params(x).numpy().reshape(len(x), -1))
                    exporter.maybe_convert_and_transpose_scale()
                    golden[f"{key}/scales"] = exporter.scale.numpy()
                else:
                    golden[f"{key}/scales"] = to_e8m0_uint8(quantizer.scale).numpy()
                if name in FAKE and mode == "even":
                    fake = quantizer.fake_quantize_with_qparams(x.clone(), quantizer.scale, quantizer.zero_point)
                    golden[f"{key}/values"] = fake.contiguous().view(BITS[dtype]).numpy()

                def scale_code(amax: np.ndarray, dtype: str = dtype, spec: type = spec, mode: str = mode) -> np.ndarray:
                    return scale_bytes(alone(amax), dtype, spec, mode).reshape(-1)

                golden[f"{key}/amax_bits"], golden[f"{key}/amax_codes"] = amax_steps(dtype, scale_code)
        fake = torch.ops.quark.non_scaled_fake_quantize(x, "mx", "int8", -1, inputs.BLOCK, "even")
        golden[f"{dtype}/mxint8/even/values"] = fake.contiguous().view(BITS[dtype]).numpy()
        amax = x.reshape(len(x), -1, inputs.BLOCK).abs().amax(-1)
        golden[f"{dtype}/mxint8/even/scales"] = to_e8m0_uint8(even_round(amax, "int8")).numpy()
    inputs.save(
        "quark",
        golden,
        version=quark.__version__,
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        default=dict.fromkeys((*PACKED, *FAKE, "mxint8"), "even"),
    )


if __name__ == "__main__":
    main()
