"""Golden bytes of AutoRound's MX data types on CPU, eager, without tuning. Runs in its environment; see README.md.

MXFP4 and MXFP8 (E4M3) take the export path: quantise-dequantise in the weight's dtype, then QuantLinear.pack. The other
elements have no packed export: their result is stored as the bits of the input dtype under "values".
"""

from types import SimpleNamespace

import auto_round
import inputs
import numpy as np
import torch
from amax_steps import alone, amax_steps
from auto_round.data_type.register import QUANT_FUNC_WITH_DTYPE
from auto_round.export.export_to_autoround.qlinear_fp import QuantLinear

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BITS = {"float32": torch.uint32, "bfloat16": torch.uint16, "float16": torch.uint16}
PACKED = {"mxfp4_e2m1": (4, "mx_fp4"), "mxfp8_e4m3": (8, "mx_fp8e4m3")}
FAKE = {
    "mxfp6_e2m3": (6, "mx_fp6e2m3"),
    "mxfp6_e3m2": (6, "mx_fp6e3m2"),
    "mxfp8_e5m2": (8, "mx_fp8e5m2"),
    "mxint8": (8, "mx_int8"),
}


def data_types(element: str) -> dict[str, str]:
    """Mode -> the name AutoRound registers for this element."""
    names = {"mx_fp": element, "mx_fp_rceil": f"{element}_rceil"}
    if element in ("mx_fp4", "mx_fp8e4m3"):
        names["opt_rtn_mx_fp"] = f"opt_rtn_{element}"
    if element == "mx_fp4":
        names["mx_fp4_rceil_v2"] = "mx_fp4_rceil_v2"
    return names


def fake_quantize(x: torch.Tensor, bits: int, element: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    result, exponents, _ = QUANT_FUNC_WITH_DTYPE[name](x.clone(), bits=bits, group_size=inputs.BLOCK, data_type=element)
    return result, exponents.reshape(len(x), -1)


def pack(weight: torch.Tensor, exponents: torch.Tensor, bits: int, element: str) -> QuantLinear:
    layer = QuantLinear(bits, inputs.BLOCK, weight.shape[1], weight.shape[0], False, data_type=element)
    layer.pack(SimpleNamespace(weight=weight), exponents, device="cpu")
    return layer


def pack_scales(x: torch.Tensor, exponents: torch.Tensor) -> QuantLinear:
    """A layer whose scale bytes alone are of use; they do not depend on the element."""
    return pack(torch.zeros_like(x), exponents, 8, "mx_fp8e4m3")


def main() -> None:
    values = inputs.load()
    golden: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        x = torch.from_numpy(values[f"{dtype}/values"].copy()).view(DTYPES[dtype])
        for name, (bits, element) in {**PACKED, **FAKE}.items():
            for mode, data_type in data_types(element).items():
                key = f"{dtype}/{name}/{mode}"
                result, exponents = fake_quantize(x, bits, element, data_type)
                layer = pack(result, exponents, bits, element) if name in PACKED else pack_scales(x, exponents)
                golden[f"{key}/scales"] = layer.weight_scale.numpy()
                if name == "mxfp4_e2m1":
                    golden[f"{key}/codes"] = inputs.nibbles(layer.weight_packed.numpy())
                elif name == "mxfp8_e4m3":
                    golden[f"{key}/codes"] = layer.weight.view(torch.uint8).numpy()
                elif mode == "mx_fp" and dtype != "float16":
                    golden[f"{key}/values"] = result.contiguous().view(BITS[dtype]).numpy()

                def scale_code(
                    amax: np.ndarray,
                    bits: int = bits,
                    element: str = element,
                    data_type: str = data_type,
                    dtype: str = dtype,
                ) -> np.ndarray:
                    blocks = torch.from_numpy(alone(amax)).view(DTYPES[dtype])
                    exponents = fake_quantize(blocks, bits, element, data_type)[1]
                    return pack_scales(blocks, exponents).weight_scale.numpy().reshape(-1)

                if mode != "opt_rtn_mx_fp":
                    golden[f"{key}/amax_bits"], golden[f"{key}/amax_codes"] = amax_steps(dtype, scale_code)
    inputs.save(
        "auto-round",
        golden,
        version=auto_round.__version__,
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        default=dict.fromkeys((*PACKED, *FAKE), "mx_fp"),
    )


if __name__ == "__main__":
    main()
