"""Checkpoints that other tools exported, tensor by tensor, against the bytes that mxsim makes of the weights they were made from."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

import mxsim
from tests.exactness.comparison import Comparison, compare

FLOAT_CHECKPOINT = "tiny"
CALIBRATED = ("input_scale",)  #: tensors that follow from calibration data, which no weights can show
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(np.uint8),
    "U8": np.dtype(np.uint8),
}

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One exported checkpoint: which policy and format its bytes should follow."""

    folder: str
    policy: str
    format: str
    weights: str = "weight"  #: the suffix of its element bytes
    divisor: str = ""  #: the suffix of a tensor scale that divides
    multiplier: str = ""  #: or multiplies
    fused: bool = False  #: whether linears that share an input share their tensor scale


EXPORTS = (
    Export(folder="ct_MXFP4", policy="compressed-tensors", format="mxfp4_e2m1", weights="weight_packed"),
    Export(folder="ct_MXFP8", policy="compressed-tensors", format="mxfp8_e4m3"),
    Export(
        folder="ct_NVFP4A16",
        policy="compressed-tensors",
        format="nvfp4",
        weights="weight_packed",
        divisor="weight_global_scale",
    ),
    Export(folder="mo_MXFP4_DEFAULT_CFG", policy="modelopt", format="mxfp4_e2m1"),
    Export(folder="mo_MXFP8_DEFAULT_CFG", policy="modelopt", format="mxfp8_e4m3"),
    Export(folder="mo_NVFP4_DEFAULT_CFG", policy="modelopt", format="nvfp4", multiplier="weight_scale_2", fused=True),
    Export(folder="quark_mxfp4", policy="quark", format="mxfp4_e2m1"),
    Export(folder="quark_mxfp6_e3m2", policy="quark", format="mxfp6_e3m2"),
    Export(folder="ar_MXFP4_auto_round/tiny-mxfp-w4g32", policy="auto-round", format="mxfp4_e2m1", weights="weight_packed"),
)

# Linears that serving engines run as one: their tensor scale is that of the largest magnitude among them.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def read(folder: Path) -> Tensors:
    """The tensors of a model.safetensors file. Source: https://github.com/huggingface/safetensors, "Format"."""
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        tensors[name] = np.frombuffer(data, dtype, math.prod(shape), 8 + length + entry["data_offsets"][0]).reshape(shape)
    return tensors


def tensor_scale_of(export: Export, module: str, weights: Tensors) -> np.float32:
    """The number that the producer stores for a linear, from the weights it was made of."""
    parent, _, leaf = module.rpartition(".")
    group = next((names for names in FUSED if export.fused and leaf in names), (leaf,))
    together = np.concatenate([weights[f"{parent}.{name}.weight"].ravel() for name in group])
    scale = mxsim.quantize(together, "nvfp4", policy=export.policy).tensor_scale
    assert scale is not None
    return scale


def export_comparisons(root: Path, export: Export) -> Iterator[Comparison]:
    """The element bytes, the scale bytes, the tensor scales and what was not quantised."""
    weights, exported = read(root / FLOAT_CHECKPOINT), read(root / export.folder)
    reference = f"{export.folder.partition('/')[0]}, {mxsim.POLICIES[export.policy].version}"
    modules = [name.removesuffix(".weight_scale") for name in exported if name.endswith(".weight_scale")]
    got: dict[str, list[npt.NDArray[Any]]] = {"elements": [], "scales": [], "tensor scales": [], "not quantised": []}
    want: dict[str, list[npt.NDArray[Any]]] = {what: [] for what in got}

    def add(what: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
        assert ours.shape == theirs.shape, f"{export.folder} {what}: {ours.shape} where {theirs.shape} is stored"
        got[what].append(ours.ravel())
        want[what].append(theirs.ravel())

    for module in modules:
        tensor_scale = None
        if suffix := export.divisor or export.multiplier:
            stored = exported[f"{module}.{suffix}"].reshape(())
            tensor_scale = 1 / float(stored) if export.divisor else float(stored)
            expected = tensor_scale_of(export, module, weights)
            multiplier = np.float32(1) / np.float32(stored) if export.divisor else np.float32(stored)
            add("tensor scales", np.array([expected]).view(np.uint32), np.array([multiplier]).view(np.uint32))
        quantized = mxsim.quantize(weights[f"{module}.weight"], export.format, policy=export.policy, tensor_scale=tensor_scale)
        elements, scales = quantized.packed()
        add("elements", elements, exported[f"{module}.{export.weights}"])
        add("scales", scales, exported[f"{module}.weight_scale"])
    left_out = 0
    for name, stored in exported.items():
        if name in weights and name.removesuffix(".weight") not in modules:
            add("not quantised", weights[name].astype(np.float32).view(np.uint32), stored.astype(np.float32).view(np.uint32))
        left_out += stored.size if name.endswith(CALIBRATED) else 0
    for what in got:
        if got[what]:
            yield compare(f"{export.format} {what}", reference, np.concatenate(got[what]), np.concatenate(want[what]))
    if left_out:
        yield Comparison(
            what=f"{export.format} input scales", reference=reference, cases=0, mismatches=0, left_out=left_out, why="calibrated"
        )


def comparisons(root: Path) -> Iterator[Comparison]:
    for export in EXPORTS:
        yield from export_comparisons(root, export)
