"""From a module's tensors to a quantised weight, with the checks that hold for every producer: presence, dtypes, shapes, padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mxsim.checkpoints.layout import Finding, QuantizedTensor, Severity
from mxsim.checkpoints.packings import PACKINGS
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.formats import FORMATS
from mxsim.json_files import shortened

Tensors = Mapping[str, StoredTensor]

#: Parts of names whose two-dimensional weights are no linears.
NOT_LINEAR = ("embed", "wte", "wpe", "norm", "conv")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightKind:
    """How a producer stores one format."""

    format: str
    elements: str = "weight"  #: suffix of the element bytes
    element_dtype: str = "U8"
    scales: str = "weight_scale"
    scale_dtype: str = "U8"
    tensor_scale: str = ""  #: suffix of nvfp4's float32; none where empty
    divides: bool = False
    packing: str = "row"


def assembled(
    tensors: Tensors, module: str, kind: WeightKind, findings: list[Finding], activation: str | None = None
) -> QuantizedTensor | None:
    """The weight of a module; None where its tensors do not fit together, which is then among the findings."""

    def wrong(suffix: str, says: str) -> None:
        where = shortened(f"{module}.{suffix}" if module else suffix)
        findings.append(Finding(severity=Severity.MISMATCH, where=where, says=says))

    parts: dict[str, StoredTensor] = {}
    wanted = {kind.elements: kind.element_dtype, kind.scales: kind.scale_dtype}
    if kind.tensor_scale:
        wanted[kind.tensor_scale] = "F32"
    for suffix, dtype in wanted.items():
        stored = tensors.get(f"{module}.{suffix}")
        if stored is None:
            wrong(suffix, f"is missing: {kind.format} stores {', '.join(wanted)}")
        elif stored.dtype != dtype:
            wrong(suffix, f"has dtype {stored.dtype}: {kind.format} stores {dtype}")
        else:
            parts[suffix] = stored
    if len(parts) != len(wanted):
        return None
    elements, scales = parts[kind.elements], parts[kind.scales]
    spec, packing = FORMATS[kind.format], PACKINGS[kind.packing]
    if len(elements.shape) < 2 or elements.elements == 0:
        wrong(kind.elements, f"has shape {list(elements.shape)}: a matrix that is not empty is expected")
        return None
    columns = elements.shape[-1] * 8 // spec.element.bits
    if packing.width(columns, spec.element) != elements.shape[-1]:
        wrong(kind.elements, f"has rows of {elements.shape[-1]} bytes, which {spec.element.bits}-bit codes cannot fill")
        return None
    needed = (*elements.shape[:-1], -(-columns // spec.block_size))
    if scales.shape != needed:
        wrong(kind.scales, f"has shape {list(scales.shape)}: {columns} columns in blocks of {spec.block_size} need {list(needed)}")
        return None
    if kind.tensor_scale and parts[kind.tensor_scale].elements != 1:
        wrong(kind.tensor_scale, f"has shape {list(parts[kind.tensor_scale].shape)}: one number is expected")
        return None
    return QuantizedTensor(
        weight=f"{module}.weight",
        format=kind.format,
        shape=(*elements.shape[:-1], columns),
        elements=elements,
        scales=scales,
        packing=kind.packing,
        tensor_scale=parts.get(kind.tensor_scale),
        divides=kind.divides,
        activation=activation,
    )


def modules_with(tensors: Tensors, suffixes: Iterable[str]) -> list[str]:
    """Modules that own a tensor of one of these suffixes, in the tensors' order."""
    ends = tuple(f".{suffix}" for suffix in suffixes)
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors if name.endswith(ends)))


def float_linears(tensors: Tensors) -> list[str]:
    """Modules whose weight is a float matrix and by its name a linear's: only their classes, which no file holds, say for sure."""
    return [
        name.removesuffix(".weight") for name, stored in tensors.items() if stored.is_float and named_as_linear(name, len(stored.shape))
    ]


def named_as_linear(name: str, axes: int) -> bool:
    """Whether a float tensor of a name is by it, and by its number of axes, the weight of a linear."""
    return name.endswith(".weight") and axes == 2 and not any(part in name.lower() for part in NOT_LINEAR)
