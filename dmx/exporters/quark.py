"""Export to AMD Quark's layout: one of MXFP4, MXFP6 E3M2 and MXFP6 E2M3 for all quantised linears.

The layout's facts stand in mxsim/checkpoints/quark.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dmx.exporters.layer import Layer
from mxsim.checkpoints.quark import KINDS, QUANT_METHOD, RULES, VERSIONS
from mxsim.policies import policy_of
from mxsim.tensor import MXTensor

DTYPES = {kind.format: name for name, kind in KINDS.items()}
ACTIVATIONS = ("bf16", *DTYPES)


def refusals(layers: Mapping[str, Layer], policy: str) -> list[str]:
    found = []
    first = next(iter(layers.values()))
    for layer in layers.values():
        if layer.weight not in DTYPES:
            found.append(f"{layer.name}: weights in {layer.weight} (it holds {', '.join(DTYPES)})")
        elif layer.activation not in ACTIVATIONS:
            found.append(f"{layer.name}: inputs in {layer.activation} (it holds {', '.join(ACTIVATIONS)})")
        elif (layer.weight, layer.activation) != (first.weight, first.activation):
            found.append(
                f"{layer.name}: {layer.weight}:{layer.activation} beside {first.name}'s {first.weight}:{first.activation} (one for all)"
            )
        elif layer.shape[1] % layer.spec.block_size:
            found.append(f"{layer.name}: {layer.shape[1]} inputs, which blocks of {layer.spec.block_size} do not divide")
        elif unnamed := {_scale_rule(one, policy) for one in (layer.weight, layer.activation) if one in DTYPES} - {*RULES, None}:
            found.append(f"{layer.name}: policy {policy}, whose scale rule {unnamed.pop()} has no name there (it has {', '.join(RULES)})")
    return found


def _scale_rule(format: str, policy: str) -> str | None:
    """The scale rule of a policy by name; None where the policy has not the format, which is refused elsewhere."""
    return next((one.scale_rule for one in policy_of(policy).conversions if format in one.formats), None)


def shapes(layer: Layer) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    u8 = np.dtype(np.uint8)
    return {"weight": (u8, layer.element_shape), "weight_scale": (u8, layer.scale_shape)}


def tensors(q: MXTensor) -> dict[str, npt.NDArray[Any]]:
    elements, scales = q.packed()
    return {"weight": elements, "weight_scale": scales}


def config(layers: Mapping[str, Layer], left: list[str], policy: str) -> dict[str, Any]:
    layer = next(iter(layers.values()))
    return {
        "quant_method": QUANT_METHOD,
        "quant_mode": "eager_mode",
        "version": VERSIONS[-1],
        "algo_config": None,
        "softmax_quant_spec": None,
        "kv_cache_quant_config": {},
        "kv_cache_post_rope": False,
        "layer_quant_config": {},
        "layer_type_quant_config": {},
        "exclude": left,
        "export": {
            "kv_cache_group": [],
            "min_kv_scale": 0.0,
            "pack_method": "reorder",
            "weight_format": "real_quantized",
            "weight_merge_groups": None,
        },
        "global_quant_config": {
            "bias": None,
            "output_tensors": None,
            "target_device": None,
            "weight": _spec(layer.weight, policy, dynamic=False),
            "input_tensors": None if layer.activation == "bf16" else _spec(layer.activation, policy, dynamic=True),
        },
    }


def _spec(format: str, policy: str, *, dynamic: bool) -> dict[str, Any]:
    return {
        "dtype": DTYPES[format],
        "is_dynamic": dynamic,
        "qscheme": "per_group",
        "group_size": 32,
        "ch_axis": -1,
        "block_size": None,
        "mx_element_dtype": None,
        "is_scale_quant": False,
        "scale_format": "e8m0",
        "scale_type": "float",
        "scale_calculation_mode": _scale_rule(format, policy),
        "round_method": "half_even",
        "symmetric": None,
        "observer_cls": "PerBlockMXObserver",
        "zero_point_type": "int32",
        "enable_buffer_reuse": False,
        "max_input_numel": 4194304,
    }
