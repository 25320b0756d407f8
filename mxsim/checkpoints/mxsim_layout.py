"""mxsim's own layout, which holds every block format: docs/checkpoints.md describes it, `dmx export --to mxsim` writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mxsim.checkpoints.config_check import ConfigCheck, said
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, QuantizedTensor, Severity
from mxsim.checkpoints.weights import Tensors, float_linears
from mxsim.errors import MxsimError
from mxsim.formats import FORMATS
from mxsim.json_files import shortened
from mxsim.packing import packed_length
from mxsim.policies import POLICIES

QUANT_METHOD = "mxsim"
LAYOUT_VERSION = 1
ELEMENTS, SCALES, TENSOR_SCALE = "weight_codes", "weight_scales", "weight_tensor_scale"
WIDE = ("bf16", "fp16", "fp32")  #: activations that are not quantised


def recognises(folder: CheckpointFolder) -> bool:
    config = folder.config.get("quantization_config")
    return isinstance(config, dict) and config.get("quant_method") == QUANT_METHOD


def read(folder: CheckpointFolder) -> Layout:
    """Raises: MxsimError where the layout's version is not the one read, or there are no layers."""
    findings: list[Finding] = []
    check = ConfigCheck(folder.config["quantization_config"], "quantization_config", findings)
    check.expect("quant_method", QUANT_METHOD)
    if check.value("layout") != LAYOUT_VERSION:
        raise MxsimError(f"quantization_config.layout is {said(check.value('layout'))}: {LAYOUT_VERSION} is read")
    version = check.value("version")
    if not isinstance(version, str):
        check.mismatch("version", f"is {said(version)}: a version is expected")
    policy = check.expect("policy", *POLICIES)
    layers = check.value("layers")
    if not isinstance(layers, dict):
        raise MxsimError("quantization_config.layers is missing or no object: it maps layers to their formats")
    check.finish(strict=True)
    quantized, used = [], set[str]()
    for name, entry in layers.items():
        used.update(f"{name}.{suffix}" for suffix in (ELEMENTS, SCALES, TENSOR_SCALE))
        weight = _weight(folder.tensors, name, ConfigCheck(entry, f"quantization_config.layers.{name}", findings), findings)
        if weight is not None:
            quantized.append(weight)
    held = [n for n in folder.tensors if n.endswith((f".{ELEMENTS}", f".{SCALES}", f".{TENSOR_SCALE}"))]
    for left in (n for n in held if n not in used):
        findings.append(Finding(severity=Severity.MISMATCH, where=shortened(left), says="belongs to no layer of the config"))
    for name in float_linears(folder.tensors):
        if name in layers:
            says = "is left over: the config has the layer quantised"
            findings.append(Finding(severity=Severity.MISMATCH, where=f"{name}.weight", says=says))
    return Layout(
        producer=QUANT_METHOD,
        version=version if isinstance(version, str) else "",
        policy=policy if isinstance(policy, str) and policy in POLICIES else None,
        quantized=tuple(quantized),
        used=frozenset(used),
        findings=tuple(findings),
    )


def _weight(tensors: Tensors, name: str, check: ConfigCheck, findings: list[Finding]) -> QuantizedTensor | None:
    format = check.expect("weight", *FORMATS)
    activation = check.expect("activation", *FORMATS, *WIDE)
    shape = check.value("shape")
    check.finish(strict=True)
    if not isinstance(format, str) or format not in FORMATS:
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and 0 < n < 1 << 31 for n in shape)):
        check.mismatch("shape", f"is {said(shape)}: [rows, columns] is expected")
        return None
    spec = FORMATS[format]
    rows, columns = shape
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        ELEMENTS: ("U8", (rows, packed_length(columns, spec))),
        SCALES: ("U8", (rows, math.ceil(columns / spec.block_size))),
    }
    if spec.tensor_scale:
        wanted[TENSOR_SCALE] = ("F32", ())
    elif f"{name}.{TENSOR_SCALE}" in tensors:
        findings.append(Finding(severity=Severity.MISMATCH, where=f"{name}.{TENSOR_SCALE}", says=f"is left over: {format} has none"))
    for suffix, (dtype, needed) in wanted.items():
        stored = tensors.get(f"{name}.{suffix}")
        if stored is None or (stored.dtype, stored.shape) != (dtype, needed):
            found = "missing" if stored is None else f"{stored.dtype} {list(stored.shape)}"
            says = f"is {found}: {format} {shape} stores {dtype} {list(needed)}"
            findings.append(Finding(severity=Severity.MISMATCH, where=f"{name}.{suffix}", says=says))
            return None
    return QuantizedTensor(
        weight=f"{name}.weight",
        format=format,
        shape=(rows, columns),
        elements=tensors[f"{name}.{ELEMENTS}"],
        scales=tensors[f"{name}.{SCALES}"],
        tensor_scale=tensors.get(f"{name}.{TENSOR_SCALE}"),
        activation=activation if isinstance(activation, str) and activation in FORMATS else None,
    )


def layer_entry(weight: str, activation: str, shape: tuple[int, int]) -> Mapping[str, Any]:
    """A layer's entry in the config."""
    return {"weight": weight, "activation": activation, "shape": list(shape)}
