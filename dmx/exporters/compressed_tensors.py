"""Export to compressed-tensors: MXFP4, MXFP6 (E2M3), MXFP8 and NVFP4, several of them in config_groups of format "mixed-precision".

The layout's facts stand in mxsim/checkpoints/compressed_tensors.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dmx.exporters.layer import Layer
from mxsim.checkpoints.compressed_tensors import FORMAT_NAMES, KINDS, MIXED, QUANT_METHOD, VERSIONS
from mxsim.formats import FORMATS
from mxsim.tensor import MXTensor

ACTIVATIONS = ("bf16", "mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
F8 = np.dtype(ml_dtypes.float8_e4m3fn)
U8 = np.dtype(np.uint8)


def refusals(layers: Mapping[str, Layer], policy: str) -> list[str]:
    found = []
    for layer in layers.values():
        if layer.weight not in FORMAT_NAMES:
            found.append(f"{layer.name}: weights in {layer.weight} (it holds {', '.join(FORMAT_NAMES)})")
        elif layer.activation == "nvfp4":
            found.append(f"{layer.name}: inputs in nvfp4, whose tensor scale needs calibration data (leave them in bf16)")
        elif layer.activation not in ACTIVATIONS:
            found.append(f"{layer.name}: inputs in {layer.activation} (it holds {', '.join(ACTIVATIONS)})")
        elif layer.weight == "nvfp4" and policy != QUANT_METHOD:
            found.append(f"{layer.name}: nvfp4 under policy {policy}, which does not store a divisor (use {QUANT_METHOD})")
        elif layer.shape[1] % layer.spec.block_size:
            found.append(f"{layer.name}: {layer.shape[1]} inputs, which blocks of {layer.spec.block_size} do not divide")
    return found


def shapes(layer: Layer) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    kind = KINDS[FORMAT_NAMES[layer.weight]]
    found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        kind.elements: (F8 if kind.element_dtype == "F8_E4M3" else U8, layer.element_shape),
        kind.scales: (F8 if kind.scale_dtype == "F8_E4M3" else U8, layer.scale_shape),
    }
    if kind.tensor_scale:
        found[kind.tensor_scale] = (np.dtype(np.float32), (1,))
    return found


def tensors(q: MXTensor) -> dict[str, npt.NDArray[Any]]:
    kind = KINDS[FORMAT_NAMES[q.format.name]]
    elements, scales = q.packed()
    found: dict[str, npt.NDArray[Any]] = {
        kind.elements: elements.view(F8) if kind.element_dtype == "F8_E4M3" else elements,
        kind.scales: scales.view(F8) if kind.scale_dtype == "F8_E4M3" else scales,
    }
    if q.tensor_divisor is not None:
        found[kind.tensor_scale] = np.array([q.tensor_divisor], np.float32)
    return found


def config(layers: Mapping[str, Layer], left: list[str], policy: str) -> dict[str, Any]:
    pairs = sorted({(layer.weight, layer.activation) for layer in layers.values()})
    stored = [FORMAT_NAMES[weight] for weight, _ in pairs]
    groups = {}
    for number, (weight, activation) in enumerate(pairs):
        named = [layer.name for layer in layers.values() if (layer.weight, layer.activation) == (weight, activation)]
        groups[f"group_{number}"] = {
            "format": FORMAT_NAMES[weight],
            "targets": ["Linear"] if len(pairs) == 1 else named,
            "weights": _arguments(weight, dynamic=False),
            "input_activations": None if activation == "bf16" else _arguments(activation, dynamic=True),
            "output_activations": None,
        }
    return {
        "quant_method": QUANT_METHOD,
        "format": stored[0] if len(set(stored)) == 1 else MIXED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": left,
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
        "sparsity_config": {},
        "transform_config": {},
        "version": VERSIONS[-1],
    }


def _arguments(format: str, *, dynamic: bool) -> dict[str, Any]:
    spec = FORMATS[format]
    return {
        "num_bits": spec.element.bits,
        "type": "float",
        "symmetric": True,
        "dynamic": dynamic,
        "group_size": spec.block_size,
        "strategy": "tensor_group" if spec.tensor_scale else "group",
        "scale_dtype": "torch.float8_e4m3fn" if spec.tensor_scale else "torch.uint8",
    }
