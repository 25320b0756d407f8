"""AMD Quark: MXFP4 and MXFP6, packed as everyone does or, in its former dtype "mx", in bit planes.

Facts from exports of amd-quark 0.13, whose spec is global_quant_config, and for the former dtype from its packing methods.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mxsim.checkpoints.config_check import ConfigCheck, said
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, Severity
from mxsim.checkpoints.weights import WeightKind, assembled, float_linears, modules_with
from mxsim.errors import MxsimError

QUANT_METHOD = "quark"
VERSIONS = ("0.13",)
LEGACY = "mx"

KINDS: Mapping[str, WeightKind] = {
    "fp4": WeightKind(format="mxfp4_e2m1"),
    "fp6_e3m2": WeightKind(format="mxfp6_e3m2"),
    "fp6_e2m3": WeightKind(format="mxfp6_e2m3"),
}
#: The former dtype "mx": its element stands in mx_element_dtype, its scale byte is a signed exponent.
LEGACY_KINDS: Mapping[str, WeightKind] = {
    name: replace(kind, packing="quark-legacy-planes") for name, kind in KINDS.items() if name != "fp4"
}
RULES = {"even": None, "floor": "floor", "ceil": "ceil"}  #: scale_calculation_mode -> the policy's scale_rule
ROUNDINGS = {"half_even": None}  #: round_method -> the policy's rounding


def recognises(folder: CheckpointFolder) -> bool:
    config = folder.config.get("quantization_config")
    return isinstance(config, dict) and config.get("quant_method") == QUANT_METHOD


def read(folder: CheckpointFolder) -> Layout:
    """Raises: MxsimError where the weights' dtype is none of those read."""
    findings: list[Finding] = []
    check = ConfigCheck(folder.config["quantization_config"], "quantization_config", findings)
    check.expect("quant_method", QUANT_METHOD)
    for key in ("algo_config", "softmax_quant_spec"):
        check.known(key, None)
    for key in ("kv_cache_quant_config", "layer_type_quant_config", "layer_quant_config"):
        value = check.value(key)
        if value not in (None, {}):
            check.mismatch(key, f"is {said(value)}: one spec for all layers is read")
    check.known("kv_cache_post_rope", False)
    check.known("quant_mode", "eager_mode")
    version = check.known("version", *VERSIONS)
    exclude = check.value("exclude") or []
    if not isinstance(exclude, list) or not all(isinstance(one, str) for one in exclude):
        check.mismatch("exclude", f"is {said(exclude)}: a list of names is expected")
        exclude = []
    _export(check, findings)
    spec = ConfigCheck(check.value("global_quant_config"), "quantization_config.global_quant_config", findings)
    check.finish()
    for key in ("bias", "output_tensors", "target_device"):
        spec.known(key, None)
    kind, rule = _spec(spec.value("weight"), f"{spec.where}.weight", findings, dynamic=False)
    inputs = spec.value("input_tensors")
    activation = _spec(inputs, f"{spec.where}.input_tensors", findings, dynamic=True)[0].format if inputs is not None else None
    spec.finish()
    tensors = folder.tensors
    quantized, used = [], set[str]()
    held = modules_with(tensors, ("weight_scale",))
    for module in dict.fromkeys([*held, *float_linears(tensors)]):
        excluded = any(fnmatch.fnmatchcase(module, pattern) for pattern in exclude)
        if (module in held) == excluded:
            says = "is quantised, but the config excludes it" if excluded else "is left in float, but the config does not exclude it"
            findings.append(Finding(severity=Severity.MISMATCH, where=module, says=says))
        if module in held:
            used.update((f"{module}.weight", f"{module}.weight_scale"))
            weight = assembled(tensors, module, kind, findings, activation)
            if weight is not None:
                quantized.append(replace(weight, scale_rule=rule))
    return Layout(
        producer=QUANT_METHOD,
        version=version if isinstance(version, str) else "",
        policy=QUANT_METHOD,
        scale_rule_key=f"{spec.where}.weight.scale_calculation_mode",
        scale_rules=frozenset(RULES.values()),
        quantized=tuple(quantized),
        used=frozenset(used),
        findings=tuple(findings),
    )


def _export(check: ConfigCheck, findings: list[Finding]) -> None:
    export = ConfigCheck(check.value("export"), "quantization_config.export", findings)
    export.known("kv_cache_group", [])
    export.known("min_kv_scale", 0.0)
    export.expect("pack_method", "reorder")
    export.expect("weight_format", "real_quantized")
    export.known("weight_merge_groups", None)
    export.finish()


def _spec(content: Any, where: str, findings: list[Finding], *, dynamic: bool) -> tuple[WeightKind, str | None]:
    """A tensor spec: how it is stored and by which scale rule."""
    check = ConfigCheck(content, where, findings)
    dtype, element = check.text("dtype"), check.value("mx_element_dtype")
    kinds, name = (LEGACY_KINDS, check.text("mx_element_dtype")) if dtype == LEGACY else (KINDS, dtype)
    if name not in kinds:
        raise MxsimError(f"{where}: dtype {said(name)} is no block format: {', '.join(kinds)} are read")
    if dtype != LEGACY and element is not None:
        check.mismatch("mx_element_dtype", f"is {said(element)}, but dtype {dtype} names the element itself")
    mode = check.expect("scale_calculation_mode", *RULES)
    check.expect("round_method", *ROUNDINGS)
    check.expect("scale_format", "e8m0")
    check.expect("qscheme", "per_group")
    check.expect("group_size", 32)
    check.expect("ch_axis", -1)
    check.expect("is_dynamic", dynamic)
    check.expect("is_scale_quant", False)
    check.known("scale_type", "float")
    check.known("symmetric", None, True)
    check.known("block_size", None)
    check.known("enable_buffer_reuse", False)
    check.known("max_input_numel", 4194304)
    check.known("observer_cls", "PerBlockMXObserver")
    check.known("zero_point_type", "int32")
    check.finish()
    return kinds[name], RULES.get(mode) if isinstance(mode, str) else None
