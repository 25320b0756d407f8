"""AutoRound in its own layout: MXFP4 and MXFP8, named as compressed-tensors names them. Its other layout is compressed-tensors' own.

Facts from exports of auto-round 0.16.1: config.json and quantization_config.json say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mxsim.checkpoints.config_check import ConfigCheck, said
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, Severity
from mxsim.checkpoints.weights import WeightKind, assembled, float_linears, modules_with
from mxsim.errors import MxsimError

QUANT_METHOD = "auto-round"
VERSIONS = ("0.16.1",)
BESIDE = "quantization_config.json"
PACKING_FORMAT = "auto_round:llm_compressor"

KINDS: Mapping[int, WeightKind] = {
    4: WeightKind(format="mxfp4_e2m1", elements="weight_packed"),
    8: WeightKind(format="mxfp8_e4m3", element_dtype="F8_E4M3"),
}
RULES = {"mx_fp": None, "mx_fp_rceil": "rceil"}  #: data_type -> the policy's scale_rule


def recognises(folder: CheckpointFolder) -> bool:
    config = folder.config.get("quantization_config")
    return isinstance(config, dict) and config.get("quant_method") == QUANT_METHOD


def read(folder: CheckpointFolder) -> Layout:
    """Raises: MxsimError where the bits or the data type are none of those read."""
    findings: list[Finding] = []
    content = folder.config["quantization_config"]
    beside = folder.json(BESIDE)
    if beside is not None and beside != content:
        other = beside if isinstance(beside, dict) else {}
        differing = [key for key in {**content, **other} if content.get(key) != other.get(key)]
        says = f"differs from config.json's quantization_config in {', '.join(differing[:5]) or 'its kind'}"
        findings.append(Finding(severity=Severity.MISMATCH, where=BESIDE, says=says))
    check = ConfigCheck(content, "quantization_config", findings)
    check.expect("quant_method", QUANT_METHOD)
    bits, data_type = check.value("bits"), check.text("data_type")
    if type(bits) is not int or bits not in KINDS or data_type not in RULES:
        raise MxsimError(f"bits {said(bits)} of data_type {said(data_type)} are not read: 4 and 8 of {', '.join(RULES)} are")
    kind = KINDS[bits]
    check.expect("group_size", 32)
    check.expect("sym", True)
    check.expect("packing_format", PACKING_FORMAT)
    activation = _activation(check)
    version = check.known("autoround_version", *VERSIONS)
    check.known("amp", False, True)
    check.known("enable_quanted_input", False, True)
    blocks = _blocks(check)
    if iterations := check.value("iters"):
        check.unproven("iters", f"is {said(iterations)}: the rounding was tuned, which no rule reproduces")
    check.finish()
    quantized, used = [], set[str]()
    tensors = folder.tensors
    held = modules_with(tensors, ("weight_packed", "weight_scale"))
    for module in dict.fromkeys([*held, *float_linears(tensors)]):
        inside = any(module.startswith(f"{block}.") for block in blocks) if blocks is not None else module in held
        if (module in held) != inside:
            says = f"is {'quantised' if module in held else 'left in float'}, but block_name_to_quantize says otherwise"
            findings.append(Finding(severity=Severity.MISMATCH, where=module, says=says))
        if module in held:
            used.update(f"{module}.{suffix}" for suffix in ("weight", "weight_packed", "weight_scale"))
            weight = assembled(tensors, module, kind, findings, activation)
            if weight is not None:
                quantized.append(replace(weight, scale_rule=RULES[data_type]))
            if kind.elements != "weight" and f"{module}.weight" in tensors:
                says = "is left over beside the packed weight"
                findings.append(Finding(severity=Severity.MISMATCH, where=f"{module}.weight", says=says))
    return Layout(
        producer=QUANT_METHOD,
        version=version if isinstance(version, str) else "",
        policy=QUANT_METHOD,
        scale_rule_key="quantization_config.data_type",
        scale_rules=frozenset(RULES.values()),
        quantized=tuple(quantized),
        used=frozenset(used),
        findings=tuple(findings),
    )


def _activation(check: ConfigCheck) -> str | None:
    """The activations' format: act_bits of 16 or more leave them alone, and then nothing else may quantise them."""
    bits = check.value("act_bits")
    if bits is None or (type(bits) is int and bits >= 16):
        check.ignored("act_data_type", "act_group_size", "act_sym", "act_dynamic")
        if str(check.content.get("act_data_type", "")).startswith("mx"):
            check.mismatch("act_bits", f"is {said(bits)}, but act_data_type is {said(check.content['act_data_type'])}")
        return None
    if type(bits) is not int or bits not in KINDS:
        check.mismatch("act_bits", f"is {said(bits)}: 4, 8 or 16 are expected")
    check.expect("act_data_type", *RULES)
    check.expect("act_group_size", 32)
    check.expect("act_sym", True)
    check.expect("act_dynamic", True)
    return KINDS[bits].format if bits in KINDS else None


def _blocks(check: ConfigCheck) -> list[str] | None:
    """The modules whose linears are quantised; None where the config does not say."""
    value: Any = check.value("block_name_to_quantize")
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return list(value)
    if not isinstance(value, str):
        check.mismatch("block_name_to_quantize", f"is {said(value)}: names are expected")
        return None
    return [one.strip() for one in value.split(",") if one.strip()]
