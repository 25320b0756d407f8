"""Golden outputs beside an export: for each layer some input rows, and the exact bits that a named unit gives for them.

golden.safetensors holds LAYER.input (N, in) float32 and LAYER.output (N, out) float32. The inputs are quantised to the layer's
activation format under the manifest's policy; the weights are those of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.layout import Finding, QuantizedTensor, Severity
from mxsim.checkpoints.safetensors_file import SafetensorsFile
from mxsim.conversion import quantize
from mxsim.errors import MxsimError
from mxsim.formats import FORMATS
from mxsim.manifest import Manifest
from mxsim.storage_formats import WIDE
from mxsim.tensor import MXTensor

GOLDEN = "golden.safetensors"


def golden_output(
    weight: QuantizedTensor, inputs: npt.NDArray[np.float32], activation: str, policy: str, unit: str
) -> npt.NDArray[np.float32]:
    """inputs (N, in) through one layer on a unit: (N, out) float32. Activations that are no block format are cast to
    bfloat16 and meet the weights' values rounded to bfloat16, as runtimes without a path for them do."""
    from mxsim.units.matmul import matmul

    result: npt.NDArray[np.float32] = matmul(*golden_operands(weight, inputs, activation, policy), unit=unit)
    return result


def golden_operands(weight: QuantizedTensor, inputs: npt.NDArray[np.float32], activation: str, policy: str) -> tuple[Any, Any]:
    """The operands of the layer's product: MX tensors, or bfloat16 arrays where activations stay wide."""
    whole: MXTensor = weight.tensor()
    if activation in FORMATS:
        return quantize(inputs, activation, policy=policy), whole.T
    import ml_dtypes

    return inputs.astype(ml_dtypes.bfloat16), whole.dequantize().astype(ml_dtypes.bfloat16).T


def golden_refusals(layers: Mapping[str, tuple[str, str]], unit: str) -> list[str]:
    """What a unit cannot compute: layer -> (weight format, activation) in, a line for each layer that it has no path for out.

    Raises: MxsimError where there is no such unit.
    """
    from mxsim.units.toml import load_unit

    described = load_unit(unit)
    refused = []
    for name, (weight, activation) in layers.items():
        left, right = (activation, weight) if activation in FORMATS else (WIDE, WIDE)
        try:
            path = described.path_for(left, right)
        except MxsimError as error:
            refused.append(f"{name}: {error}")
            continue
        if path.block is not None and path.block != FORMATS[weight].block_size:
            refused.append(f"{name}: {unit} takes blocks of {path.block}, {weight} has {FORMATS[weight].block_size}")
    return refused


def check_golden(read: Checkpoint, manifest: Manifest) -> tuple[list[Finding], int]:
    """Recompute every golden output. Returns: what is wrong, and how many numbers were compared."""
    if manifest.golden is None:
        return [], 0
    findings: list[Finding] = []

    def wrong(where: str, says: str) -> None:
        findings.append(Finding(severity=Severity.MISMATCH, where=where, says=says))

    if manifest.golden != GOLDEN or manifest.unit is None:
        wrong("manifest.json", f"names golden outputs {manifest.golden!r} of unit {manifest.unit!r}: {GOLDEN} and a unit are expected")
        return findings, 0
    compared = 0
    try:
        tensors = SafetensorsFile(read.path / GOLDEN).tensors
        for weight in read.quantized:
            given, wanted = tensors.get(f"{weight.module}.input"), tensors.get(f"{weight.module}.output")
            activation = manifest.layers.get(weight.module, {}).get("activation")
            if given is None or wanted is None or activation is None:
                wrong(f"{GOLDEN}: {weight.module}", "has no input, output or activation format")
                continue
            inputs = np.array(given.array(), np.float32)
            if inputs.ndim != 2 or inputs.shape[1] != weight.columns or wanted.shape != (len(inputs), weight.rows):
                wrong(f"{GOLDEN}: {weight.module}", "has other shapes than its layer")
                continue
            found = golden_output(weight, inputs, activation, manifest.policy, manifest.unit)
            differing = int(np.count_nonzero(found.view(np.uint32) != np.array(wanted.array(), np.float32).view(np.uint32)))
            compared += found.size
            if differing:
                wrong(f"{GOLDEN}: {weight.module}", f"{differing} of {found.size} outputs come out otherwise on {manifest.unit}")
    except MxsimError as error:
        wrong(GOLDEN, str(error))
    return findings, compared
