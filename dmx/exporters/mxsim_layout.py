"""Export to mxsim's own layout, which holds every block format: docs/checkpoints.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dmx.exporters.layer import Layer
from mxsim.checkpoints.mxsim_layout import ELEMENTS, LAYOUT_VERSION, QUANT_METHOD, SCALES, TENSOR_SCALE, WIDE, layer_entry
from mxsim.formats import FORMATS
from mxsim.policies import policy_of
from mxsim.tensor import MXTensor
from mxsim.version import VERSION


def refusals(layers: Mapping[str, Layer], policy: str) -> list[str]:
    found = []
    for layer in layers.values():
        if layer.activation not in (*FORMATS, *WIDE):
            found.append(f"{layer.name}: inputs in {layer.activation} (it holds block formats and {', '.join(WIDE)})")
        elif layer.spec.tensor_scale and _divides(policy, layer.weight):
            found.append(f"{layer.name}: {layer.weight} under policy {policy}, whose divisor it does not store (export to {policy})")
    return found


def _divides(policy: str, format: str) -> bool:
    return any(c.two_level is not None and c.two_level.divides for c in policy_of(policy).conversions if format in c.formats)


def shapes(layer: Layer) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    u8 = np.dtype(np.uint8)
    found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {ELEMENTS: (u8, layer.element_shape), SCALES: (u8, layer.scale_shape)}
    if layer.spec.tensor_scale:
        found[TENSOR_SCALE] = (np.dtype(np.float32), ())
    return found


def tensors(q: MXTensor) -> dict[str, npt.NDArray[Any]]:
    elements, scales = q.packed()
    found: dict[str, npt.NDArray[Any]] = {ELEMENTS: elements, SCALES: scales}
    if q.tensor_scale is not None:
        found[TENSOR_SCALE] = np.array(q.tensor_scale, np.float32)
    return found


def config(layers: Mapping[str, Layer], left: list[str], policy: str) -> dict[str, Any]:
    return {
        "quant_method": QUANT_METHOD,
        "layout": LAYOUT_VERSION,
        "version": VERSION,
        "policy": policy,
        "layers": {layer.name: layer_entry(layer.weight, layer.activation, layer.shape) for layer in layers.values()},
    }
