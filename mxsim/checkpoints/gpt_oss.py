"""gpt-oss as transformers stores it: experts' MXFP4 blocks (E, rows, in / 32, 16) and scales (E, rows, in / 32).

Dequantising transposes to (E, in, rows), which is how the float model holds them. Which rule made them is not known: the weights were
trained in MXFP4.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from mxsim.checkpoints.config_check import ConfigCheck, name_patterns
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, QuantizedTensor, Severity

QUANT_METHOD = "mxfp4"
BLOCKS, SCALES = "_blocks", "_scales"
BLOCK, BLOCK_BYTES = 32, 16


def recognises(folder: CheckpointFolder) -> bool:
    config = folder.config.get("quantization_config")
    return isinstance(config, dict) and config.get("quant_method") == QUANT_METHOD


def read(folder: CheckpointFolder) -> Layout:
    findings: list[Finding] = []
    check = ConfigCheck(folder.config["quantization_config"], "quantization_config", findings)
    check.expect("quant_method", QUANT_METHOD)
    wide = name_patterns(check, "modules_to_not_convert")
    check.finish()
    tensors = folder.tensors
    names = dict.fromkeys(name.removesuffix(BLOCKS).removesuffix(SCALES) for name in tensors if name.endswith((BLOCKS, SCALES)))
    quantized = []
    for name in names:
        if any(fnmatchcase(name, one) or fnmatchcase(name, f"{one}.*") or name.rpartition(".")[0].endswith(one) for one in wide):
            findings.append(Finding(severity=Severity.MISMATCH, where=name, says="is quantised, but the config does not convert it"))
        weight = _weight(folder, name, findings)
        if weight is not None:
            quantized.append(weight)
    return Layout(
        producer="gpt-oss",
        policy=None,
        quantized=tuple(quantized),
        used=frozenset(f"{name}{suffix}" for name in names for suffix in (BLOCKS, SCALES)),
        findings=tuple(findings),
    )


def _weight(folder: CheckpointFolder, name: str, findings: list[Finding]) -> QuantizedTensor | None:
    def wrong(suffix: str, says: str) -> None:
        findings.append(Finding(severity=Severity.MISMATCH, where=f"{name}{suffix}", says=says))

    blocks, scales = folder.tensors.get(f"{name}{BLOCKS}"), folder.tensors.get(f"{name}{SCALES}")
    if blocks is None or scales is None:
        wrong(BLOCKS if blocks is None else SCALES, "is missing: blocks and scales go together")
        return None
    for suffix, stored in ((BLOCKS, blocks), (SCALES, scales)):
        if stored.dtype != "U8":
            wrong(suffix, f"has dtype {stored.dtype}: U8 is expected")
            return None
    if len(blocks.shape) != 4 or blocks.shape[-1] != BLOCK_BYTES or blocks.elements == 0:
        wrong(BLOCKS, f"has shape {list(blocks.shape)}: (experts, rows, in / {BLOCK}, {BLOCK_BYTES}) is expected")
        return None
    if scales.shape != blocks.shape[:-1]:
        wrong(SCALES, f"has shape {list(scales.shape)}: the blocks need {list(blocks.shape[:-1])}")
        return None
    experts, rows, count, _ = blocks.shape
    return QuantizedTensor(
        weight=name, format="mxfp4_e2m1", shape=(experts, rows, count * BLOCK), elements=blocks, scales=scales, transposed=True
    )
