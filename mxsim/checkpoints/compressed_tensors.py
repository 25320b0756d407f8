"""compressed-tensors: MXFP4, MXFP6 (E2M3), MXFP8, NVFP4, and several of them in one checkpoint (config_groups).

Facts from compressed-tensors 0.20.0: compressors/mxfp4, mxfp6, mxfp8, nvfp4; quantization/quant_scheme.py; exports of it.
AutoRound writes the same layout with a key "provider".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mxsim.checkpoints.config_check import ConfigCheck, matches, name_patterns, said
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, QuantizedTensor, Severity
from mxsim.checkpoints.weights import WeightKind, assembled, float_linears, modules_with
from mxsim.errors import MxsimError
from mxsim.formats import FORMATS

QUANT_METHOD = "compressed-tensors"
MIXED = "mixed-precision"
VERSIONS = ("0.20.0",)  #: whose bytes are reproduced: see tests/golden/policies

KINDS: Mapping[str, WeightKind] = {
    "mxfp4-pack-quantized": WeightKind(format="mxfp4_e2m1", elements="weight_packed"),
    "mxfp6-pack-quantized": WeightKind(format="mxfp6_e2m3", elements="weight_packed"),
    "mxfp8-quantized": WeightKind(format="mxfp8_e4m3", element_dtype="F8_E4M3"),
    "nvfp4-pack-quantized": WeightKind(
        format="nvfp4", elements="weight_packed", scale_dtype="F8_E4M3", tensor_scale="weight_global_scale", divides=True
    ),
}
FORMAT_NAMES = {kind.format: name for name, kind in KINDS.items()}
INPUT_SCALE = "input_global_scale"
BITS = {4: "mxfp4_e2m1", 6: "mxfp6_e2m3", 8: "mxfp8_e4m3"}


@dataclass(frozen=True, slots=True)
class Group:
    """One entry of config_groups."""

    name: str
    format: str  #: a key of KINDS
    targets: list[str]
    activation: str | None


def recognises(folder: CheckpointFolder) -> bool:
    config = quantization_config(folder)
    return isinstance(config, dict) and config.get("quant_method") == QUANT_METHOD


def quantization_config(folder: CheckpointFolder) -> Any:
    return folder.config.get("quantization_config", folder.config.get("compression_config"))


def read(folder: CheckpointFolder) -> Layout:
    """Raises: MxsimError where a group stores something that is no block format."""
    findings: list[Finding] = []
    config = ConfigCheck(quantization_config(folder), "quantization_config", findings)
    config.expect("quant_method", QUANT_METHOD)
    config.expect("quantization_status", "compressed", None)
    for key in ("kv_cache_scheme", "sparsity_config", "transform_config", "moe_sparsity_config", "global_compression_ratio"):
        config.known(key, None, {})
    provider = config.known("provider", "auto-round", None)
    version = config.known("version", *VERSIONS)
    whole = config.expect("format", MIXED, *KINDS)
    groups = _groups(config, whole, findings)
    if whole == MIXED and len({group.format for group in groups}) < 2:
        config.mismatch("format", f"is {MIXED}, but all groups store the same")
    ignore = name_patterns(config, "ignore")
    config.finish()
    quantized, used = _weights(folder, groups, ignore, findings)
    by_auto_round = provider == "auto-round"
    return Layout(
        producer="auto-round" if by_auto_round else QUANT_METHOD,
        version="" if by_auto_round or not isinstance(version, str) else version,
        policy="auto-round" if by_auto_round else QUANT_METHOD,
        quantized=tuple(quantized),
        calibrated={name: "an activation scale from calibration" for name in folder.tensors if name.endswith(f".{INPUT_SCALE}")},
        used=frozenset(used),
        findings=tuple(findings),
    )


def _groups(config: ConfigCheck, whole: Any, findings: list[Finding]) -> list[Group]:
    content = config.value("config_groups")
    if not isinstance(content, dict) or not content:
        raise MxsimError("quantization_config.config_groups is missing or no object: it maps groups to schemes")
    groups = []
    for name, scheme in content.items():
        check = ConfigCheck(scheme, f"quantization_config.config_groups.{name}", findings)
        stored = check.text("format") or (whole if isinstance(whole, str) and whole != MIXED else _guessed(scheme))
        if stored not in KINDS:
            raise MxsimError(f"{check.where}: format {said(stored)} is no block format: {', '.join(KINDS)} are read")
        if whole not in (MIXED, stored):
            check.mismatch("format", f"is {stored}, but the whole is labelled {whole}")
        check.expect("output_activations", None)
        targets = name_patterns(check, "targets")
        _arguments(check.value("weights"), f"{check.where}.weights", KINDS[stored].format, findings, dynamic=False)
        activation = _activation(check.value("input_activations"), f"{check.where}.input_activations", findings)
        check.finish(strict=True)
        groups.append(Group(name, stored, targets, activation))
    return groups


def _guessed(scheme: Any) -> str:
    """What a scheme without a format stores, as the library infers it."""
    weights = scheme.get("weights") if isinstance(scheme, dict) else None
    if not isinstance(weights, dict) or weights.get("type") != "float":
        return ""
    bits, size = weights.get("num_bits"), weights.get("group_size")
    if (bits, size) == (4, 16):
        return "nvfp4-pack-quantized"
    return FORMAT_NAMES.get(BITS.get(bits, ""), "") if size == 32 and isinstance(bits, int) else ""


def _activation(content: Any, where: str, findings: list[Finding]) -> str | None:
    if content is None:
        return None
    bits, size = (content.get("num_bits"), content.get("group_size")) if isinstance(content, dict) else (None, None)
    format = "nvfp4" if (bits, size) == (4, 16) else BITS.get(bits if isinstance(bits, int) else 0)
    if format is None:
        findings.append(Finding(severity=Severity.MISMATCH, where=where, says=f"has num_bits {bits!r}: 4, 6 or 8 are expected"))
        return None
    _arguments(content, where, format, findings, dynamic="local" if format == "nvfp4" else True)
    return format


def _arguments(content: Any, where: str, format: str, findings: list[Finding], *, dynamic: bool | str) -> None:
    """Check quantization arguments against the format that they describe."""
    spec = FORMATS[format]
    check = ConfigCheck(content, where, findings)
    check.expect("num_bits", spec.element.bits)
    check.expect("type", "float")
    check.expect("symmetric", True)
    check.expect("group_size", spec.block_size)
    check.expect("dynamic", dynamic)
    check.expect("strategy", "tensor_group" if spec.tensor_scale else "group")
    scale_dtype = "torch.float8_e4m3fn" if spec.tensor_scale else "torch.uint8"
    check.expect("scale_dtype", scale_dtype, *([None] if spec.tensor_scale else []))
    check.known("zp_dtype", None, scale_dtype)
    for key in ("actorder", "block_structure"):
        check.expect(key, None)
    check.known("observer", None, "minmax", "static_minmax", "memoryless_minmax")
    check.known("observer_kwargs", None, {})
    check.finish(strict=True)


def _weights(
    folder: CheckpointFolder, groups: list[Group], ignore: list[str], findings: list[Finding]
) -> tuple[list[QuantizedTensor], set[str]]:
    tensors = folder.tensors
    quantized, used = [], set[str]()
    held = modules_with(tensors, ("weight_packed", "weight_scale", "weight_global_scale", INPUT_SCALE))
    for module in dict.fromkeys([*held, *float_linears(tensors)]):
        ignored = matches(module, ignore) > 0
        rank, group = max(((matches(module, group.targets), group) for group in groups), key=lambda pair: pair[0])
        where = module or "(no module)"
        if module not in held:
            if rank and not ignored:
                says = f"is left in float, but {group.name} quantises it and it is not ignored"
                findings.append(Finding(severity=Severity.MISMATCH, where=where, says=says))
            continue
        used.update(f"{module}.{suffix}" for suffix in ("weight_packed", "weight_scale", "weight_global_scale", INPUT_SCALE, "weight"))
        if ignored or not rank:
            says = "is quantised, but the config " + ("ignores it" if ignored else "has no group for it")
            findings.append(Finding(severity=Severity.MISMATCH, where=where, says=says))
        kind = KINDS[group.format]
        weight = assembled(tensors, module, kind, findings, group.activation)
        if weight is not None:
            quantized.append(weight)
        known = {kind.elements, kind.scales, kind.tensor_scale}
        for suffix in ("weight", "weight_packed", "weight_global_scale"):
            if f"{module}.{suffix}" in tensors and suffix not in known:
                says = f"is left over: {group.format} does not store it"
                findings.append(Finding(severity=Severity.MISMATCH, where=f"{module}.{suffix}", says=says))
        if (f"{module}.{INPUT_SCALE}" in tensors) != (group.activation == "nvfp4"):
            labelled = "quantised to nvfp4" if group.activation == "nvfp4" else f"{group.activation or 'not quantised'}"
            there = "is there" if f"{module}.{INPUT_SCALE}" in tensors else "is missing"
            says = f"{there}, but the config labels activations as {labelled}"
            findings.append(Finding(severity=Severity.MISMATCH, where=f"{module}.{INPUT_SCALE}", says=says))
    return quantized, used
