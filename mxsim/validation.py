"""Is every bit of an MX checkpoint as it should be? Structure, manifest, golden outputs, and the float weights quantised anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.folder import CheckpointFolder, open_folder
from mxsim.checkpoints.layout import Finding, Severity
from mxsim.checkpoints.reader import open_checkpoint
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.golden import check_golden
from mxsim.manifest import Manifest, TensorRecord, check_files, read_manifest, tensor_records
from mxsim.plain_tensors import TIED, check_plain, differing_elements
from mxsim.plausibility import CodeStatistics, code_findings, code_statistics, scale_distribution
from mxsim.reference_check import check_weights
from mxsim.verdict import MISMATCH, PROVEN, UNPROVEN, Verdict

Progress = Callable[[str, int], None]  #: told what is being done, and the bytes done since the last call


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What validate found. `ok` is false as soon as one bit, or the structure, is known to be wrong."""

    checkpoint: str
    reference: str | None
    producer: str
    version: str
    policy: str | None  #: the policy that explains all bits, or else comes closest; None without a reference
    explains_all: bool
    tensors: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    proofs: tuple[str, ...]  #: what was proven, and against what
    limits: tuple[str, ...]  #: what was not, and why

    @property
    def ok(self) -> bool:
        wrong = any(finding.severity is Severity.MISMATCH for finding in self.findings)
        return not wrong and all(verdict.status != MISMATCH for verdict in self.tensors)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "checkpoint": self.checkpoint,
            "reference": self.reference,
            "producer": self.producer,
            "version": self.version,
            "policy": self.policy,
            "explains_all": self.explains_all,
            "tensors": [verdict.as_json() for verdict in self.tensors],
            "findings": [{"severity": f.severity.value, "where": f.where, "says": f.says} for f in self.findings],
            "proven": list(self.proofs),
            "not_proven": list(self.limits),
        }


def validate(checkpoint: str | Path, reference: str | Path | None = None, progress: Progress = lambda what, count: None) -> Report:
    """Check an MX checkpoint.

    Args: checkpoint: a folder. reference: the folder of the float checkpoint it was made of; None checks what can be checked without.
    Returns: a Report.
    Raises: MxsimError where one of them cannot be read at all.
    """
    read = open_checkpoint(checkpoint)
    manifest, broken = _manifest(read.path)
    findings = [*read.findings, *broken]
    proofs: list[str] = []
    recorded: dict[str, str] = {}
    if manifest is not None:
        findings += check_files(read.path, manifest)
        recorded, wrong = _against_manifest(read, manifest)
        findings += wrong
        if all(finding.severity is Severity.NOTE for finding in findings):
            proofs.append(f"every file, and the bytes and values of every tensor, have the SHA-256 that {manifest.producer} wrote down")
        golden_findings, outputs = check_golden(read, manifest)
        findings += golden_findings
        if outputs and not golden_findings:
            proofs.append(f"{outputs} golden output numbers come out anew on unit {manifest.unit}, bit for bit")
    float_folder = open_folder(reference) if reference is not None else None
    policy, explains_all = None, False
    if float_folder is not None:
        checked = check_weights(read, float_folder, manifest.policy if manifest is not None else None, progress)
        weights, policy, explains_all = checked.verdicts, checked.policy, checked.explains_all
        findings += checked.findings
        findings += [Finding(severity=Severity.MISMATCH, where=v.name, says=v.detail) for v in weights if v.status == UNPROVEN]
        statistics = {v.name: code_statistics(w) for v, w in zip(weights, read.quantized, strict=True) if v.status != PROVEN}
    else:
        statistics = {weight.weight: code_statistics(weight) for weight in read.quantized}
        weights = [_by_record(weight.weight, weight.format, weight.count, recorded) for weight in read.quantized]
        findings += scale_distribution(read, statistics)
    findings += _code_findings(read, statistics, keep_wrong=float_folder is None)
    plain = check_plain(read, float_folder, lambda name, format, count: _by_record(name, format, count, recorded))
    if float_folder is not None:
        findings += _absent(read, float_folder)
        proofs += _proofs(weights, plain, policy, explains_all)
    verdicts = [*weights, *plain, *_calibrated(read)]
    return Report(
        checkpoint=str(checkpoint),
        reference=None if reference is None else str(reference),
        producer=read.producer,
        version=read.layout.version,
        policy=policy,
        explains_all=explains_all,
        tensors=tuple(verdicts),
        findings=tuple(findings),
        proofs=tuple(proofs),
        limits=tuple(_limits(read, verdicts, manifest, float_folder)),
    )


def _manifest(folder: Path) -> tuple[Manifest | None, list[Finding]]:
    """The manifest; one that is broken is a finding, as its export is no longer what was written."""
    from mxsim.errors import MxsimError

    try:
        return read_manifest(folder), []
    except MxsimError as error:
        return None, [Finding(severity=Severity.MISMATCH, where="manifest.json", says=str(error))]


def _against_manifest(read: Checkpoint, manifest: Manifest) -> tuple[dict[str, str], list[Finding]]:
    """What of each tensor the manifest confirms, and what contradicts it."""
    recorded, findings, seen = {}, [], set()
    for name, record in tensor_records(read):
        seen.add(name)
        wanted = manifest.tensors.get(name)
        if wanted is None:
            findings.append(Finding(severity=Severity.MISMATCH, where=name, says="is not listed in the manifest"))
            continue
        differing = [key for key in TensorRecord.__slots__ if getattr(record, key) != getattr(wanted, key)]
        recorded[name] = f"{' and '.join(differing)} not as in the manifest" if differing else ""
        if differing:
            findings.append(Finding(severity=Severity.MISMATCH, where=name, says=recorded[name]))
    missing = [name for name in manifest.tensors if name not in seen]
    findings += [Finding(severity=Severity.MISMATCH, where=name, says="is listed in the manifest, but missing") for name in missing]
    activations = {w.module: w.activation or "bf16" for w in read.quantized}
    for module, pair in manifest.layers.items():
        if module in activations and activations[module] != pair.get("activation"):
            says = f"labels its inputs as {activations[module]}, the manifest as {pair.get('activation')}"
            findings.append(Finding(severity=Severity.MISMATCH, where=module, says=says))
    return recorded, findings


def _by_record(name: str, format: str, count: int, recorded: dict[str, str]) -> Verdict:
    """A tensor's verdict without a reference: what the manifest says of it, if anything."""
    if name not in recorded:
        detail = "no reference, no manifest: structure alone was checked"
        return Verdict(name=name, format=format, elements=count, status=UNPROVEN, detail=detail)
    if recorded[name]:
        return Verdict(name=name, format=format, elements=count, status=MISMATCH, mismatches=1, detail=recorded[name])
    return Verdict(name=name, format=format, elements=count, status=PROVEN, detail="bytes and values have the manifest's SHA-256")


def _code_findings(read: Checkpoint, statistics: dict[str, CodeStatistics], *, keep_wrong: bool) -> list[Finding]:
    """Codes that look wrong by themselves. Beside a reference its bits decide, and these are notes."""
    found = [
        finding for weight in read.quantized if weight.weight in statistics for finding in code_findings(weight, statistics[weight.weight])
    ]
    if keep_wrong:
        return found
    return [Finding(severity=Severity.NOTE, where=finding.where, says=finding.says) for finding in found]


def _absent(read: Checkpoint, reference: CheckpointFolder) -> list[Finding]:
    """Float tensors that the checkpoint has nothing for."""
    held = {weight.weight for weight in read.quantized} | set(read.tensors)
    tied = bool(read.folder.config.get("tie_word_embeddings"))
    return [
        Finding(severity=Severity.MISMATCH, where=name, says="is missing: the reference has it")
        for name in reference.tensors
        if name not in held
        and not name.endswith("rotary_emb.inv_freq")
        and not (tied and name == "lm_head.weight" and _stands_elsewhere(reference.tensors[name], read, reference))
    ]


def _stands_elsewhere(head: StoredTensor, read: Checkpoint, reference: CheckpointFolder) -> bool:
    """Whether the checkpoint holds an output head under the name that it is tied to: it was held against that one's values, or the
    reference has the same values under both names."""
    if TIED[head.name] in read.tensors and TIED[head.name] not in reference.tensors:
        return True
    others = (tensor for name, tensor in reference.tensors.items() if name != head.name and name in read.tensors)
    return any((one.dtype, one.shape) == (head.dtype, head.shape) and not differing_elements(one, head)[0] for one in others)


def _calibrated(read: Checkpoint) -> list[Verdict]:
    return [
        Verdict(name=name, format=read.tensors[name].dtype, elements=read.tensors[name].elements, status=UNPROVEN, detail=what)
        for name, what in read.calibrated.items()
    ]


def _proofs(weights: list[Verdict], plain: list[Verdict], policy: str | None, explains_all: bool) -> list[str]:
    proofs = []
    if explains_all:
        proofs.append(f"policy {policy} gives every element and scale bit of all {len(weights)} quantised weights")
    elif proven := sum(v.status == PROVEN for v in weights):
        proofs.append(f"{proven} of {len(weights)} quantised weights are explained to the last bit")
    if plain and all(v.status == PROVEN for v in plain):
        proofs.append(f"all {len(plain)} tensors left in float equal the reference's, after exact widening")
    return proofs


def _limits(read: Checkpoint, verdicts: list[Verdict], manifest: Manifest | None, reference: CheckpointFolder | None) -> list[str]:
    limits = []
    if reference is None:
        says = "that the weights were converted rightly: pass --reference with the float checkpoint"
        limits.append(says if manifest is None else f"{says}; the manifest shows only that they are as written")
    if manifest is None:
        limits.append("files other than the tensors and quantization_config: there is no manifest")
    if calibrated := len(read.calibrated):
        limits.append(f"{calibrated} calibrated activation scales: they follow from data that no weight shows")
    if manifest is None and any(w.activation is not None and not read.calibrated for w in read.quantized):
        limits.append("that activations are meant to be quantised: dynamic ones leave nothing in the tensors but the config's word")
    others = [v for v in verdicts if v.status == UNPROVEN and v.name not in read.calibrated]
    if reference is not None and others:
        limits.append(f"{len(others)} other tensors, {others[0].name} first: {others[0].detail}")
    return limits
