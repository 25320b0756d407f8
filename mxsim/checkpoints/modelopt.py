"""NVIDIA ModelOpt: MXFP4, MXFP8 and NVFP4.

Facts from exports of nvidia-modelopt 0.47.0: the algorithm's name stands in config.json and hf_quant_config.json, group_size mostly in
the latter alone.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from mxsim.checkpoints.config_check import ConfigCheck, said
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, Severity
from mxsim.checkpoints.weights import WeightKind, assembled, float_linears, modules_with
from mxsim.errors import MxsimError
from mxsim.formats import FORMATS

QUANT_METHOD = "modelopt"
VERSIONS = ("0.47.0",)
HF_CONFIG = "hf_quant_config.json"
INPUT_SCALE = "input_scale"

KINDS: Mapping[str, WeightKind] = {
    "mxfp4": WeightKind(format="mxfp4_e2m1"),
    "mxfp8": WeightKind(format="mxfp8_e4m3", element_dtype="F8_E4M3"),
    "nvfp4": WeightKind(format="nvfp4", scale_dtype="F8_E4M3", tensor_scale="weight_scale_2"),
    "nvfp4_w4a16": WeightKind(format="nvfp4", scale_dtype="F8_E4M3", tensor_scale="weight_scale_2"),
}
WEIGHT_ONLY = ("nvfp4_w4a16",)


def recognises(folder: CheckpointFolder) -> bool:
    config = folder.config.get("quantization_config")
    if isinstance(config, dict):
        return str(config.get("quant_method", "")).startswith(QUANT_METHOD)
    beside = folder.json(HF_CONFIG)
    return isinstance(beside, dict) and isinstance(beside.get("producer"), dict) and beside["producer"].get("name") == QUANT_METHOD


def read(folder: CheckpointFolder) -> Layout:
    """Raises: MxsimError where the algorithm is none of those read."""
    findings: list[Finding] = []
    content, beside = folder.config.get("quantization_config"), folder.json(HF_CONFIG)
    inner = beside.get("quantization") if isinstance(beside, dict) else None
    algorithm = next((held["quant_algo"] for held in (content, inner) if isinstance(held, dict) and held.get("quant_algo")), None)
    if not isinstance(algorithm, str) or algorithm.lower() not in KINDS:
        raise MxsimError(f"quant_algo {said(algorithm)} is no block format: {', '.join(KINDS)} are read")
    name = algorithm.lower()
    kind = KINDS[name]
    exclude: list[str] = []
    version = ""
    if content is not None:
        check = ConfigCheck(content, "quantization_config", findings)
        check.expect("quant_method", QUANT_METHOD)
        check.expect("quant_algo", algorithm)
        check.known("kv_cache_scheme", None)
        check.known("kv_cache_quant_algo", None)
        check.expect("group_size", None, FORMATS[kind.format].block_size)
        version = _producer(check)
        exclude += _names(check, "ignore")
        _groups(check, kind.format, name not in WEIGHT_ONLY, findings)
        check.finish()
    if beside is not None:
        outer = ConfigCheck(beside, HF_CONFIG, findings)
        version = _producer(outer) or version
        outer.ignored("quantization")
        outer.finish()
        check = ConfigCheck(inner, f"{HF_CONFIG}.quantization", findings)
        check.expect("quant_algo", algorithm)
        check.known("kv_cache_quant_algo", None)
        check.expect("group_size", FORMATS[kind.format].block_size, *([None] if name == "mxfp4" else []))
        others = _names(check, "exclude_modules")
        if content is not None and set(others) != set(exclude):
            check.mismatch("exclude_modules", f"is {said(others)}, but config.json ignores {said(exclude)}")
        exclude += others
        check.finish()
    activation = None if name in WEIGHT_ONLY else kind.format
    tensors = folder.tensors
    quantized, used = [], set[str]()
    held = modules_with(tensors, ("weight_scale", "weight_scale_2", INPUT_SCALE))
    for module in dict.fromkeys([*held, *float_linears(tensors)]):
        excluded = any(fnmatch.fnmatchcase(module, pattern) for pattern in exclude)
        if module not in held:
            if not excluded:
                says = "is left in float, but the config does not exclude it"
                findings.append(Finding(severity=Severity.MISMATCH, where=module, says=says))
            continue
        used.update(f"{module}.{suffix}" for suffix in ("weight", "weight_scale", "weight_scale_2", INPUT_SCALE))
        if excluded:
            findings.append(Finding(severity=Severity.MISMATCH, where=module, says="is quantised, but the config excludes it"))
        weight = assembled(tensors, module, kind, findings, activation)
        if weight is not None:
            quantized.append(weight)
        for suffix, wanted in (("weight_scale_2", kind.tensor_scale != ""), (INPUT_SCALE, name == "nvfp4")):
            there = f"{module}.{suffix}" in tensors
            if there != wanted and not (suffix == "weight_scale_2" and wanted):
                label = f"the config's {algorithm} " + ("quantises activations by it" if wanted else "has none")
                says = f"is {'left over' if there else 'missing'}: {label}"
                findings.append(Finding(severity=Severity.MISMATCH, where=f"{module}.{suffix}", says=says))
    return Layout(
        producer=QUANT_METHOD,
        version=version,
        policy=QUANT_METHOD,
        quantized=tuple(quantized),
        calibrated={n: "an activation scale from calibration" for n in tensors if n.endswith(f".{INPUT_SCALE}")},
        used=frozenset(used),
        findings=tuple(findings),
    )


def _producer(check: ConfigCheck) -> str:
    producer = ConfigCheck(check.value("producer") or {}, f"{check.where}.producer", check.findings)
    producer.expect("name", QUANT_METHOD, None)
    version = producer.known("version", *VERSIONS)
    producer.finish()
    return version if isinstance(version, str) else ""


def _names(check: ConfigCheck, key: str) -> list[str]:
    value = check.value(key)
    if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        check.mismatch(key, f"is {said(value)}: a list of names is expected")
        return []
    return list(value or ())


def _groups(check: ConfigCheck, format: str, quantizes_inputs: bool, findings: list[Finding]) -> None:
    """config_groups repeats, for vLLM's sake, what the algorithm's name already says."""
    content = check.value("config_groups")
    if content is None:
        return
    spec = FORMATS[format]
    groups: dict[str, Any] = content if isinstance(content, dict) else {}
    if list(groups) != ["group_0"]:
        check.mismatch("config_groups", f"holds {said(list(groups))}: one group_0 is expected")
    for name, group in groups.items():
        inner = ConfigCheck(group, f"{check.where}.config_groups.{name}", findings)
        inner.expect("targets", ["Linear"])
        for key, wanted in (("weights", True), ("input_activations", quantizes_inputs)):
            arguments = inner.value(key)
            if (arguments is not None) != wanted:
                inner.mismatch(key, f"is {said(arguments)}: the algorithm's name says otherwise")
            if isinstance(arguments, dict):
                one = ConfigCheck(arguments, f"{inner.where}.{key}", findings)
                one.expect("dynamic", False)
                one.expect("num_bits", spec.element.bits)
                one.expect("type", "float")
                one.expect("group_size", spec.block_size)
                one.finish()
        inner.finish()
