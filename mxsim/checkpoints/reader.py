"""Which producer wrote a checkpoint, from its files alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxsim.checkpoints import auto_round, compressed_tensors, gpt_oss, modelopt, mxsim_layout, quark
from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.config_check import said
from mxsim.checkpoints.folder import CheckpointFolder, open_folder
from mxsim.checkpoints.layout import Finding, Layout, Severity
from mxsim.errors import MxsimError
from mxsim.registry import Registry

#: In a safetensors file's metadata: the SHA-256 of the quantization_config that its tensors were written under.
CONFIG_HASH = "mxsim.quantization_config.sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """A producer's module."""

    name: str
    recognises: Callable[[CheckpointFolder], bool]
    read: Callable[[CheckpointFolder], Layout]


PRODUCERS: Registry[Producer] = Registry(
    "producer",
    [
        Producer(name=name, recognises=module.recognises, read=module.read)
        for name, module in (
            ("compressed-tensors", compressed_tensors),
            ("modelopt", modelopt),
            ("quark", quark),
            ("auto-round", auto_round),
            ("gpt-oss", gpt_oss),
            ("mxsim", mxsim_layout),
        )
    ],
)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint's structure: header and config, no tensor.

    Raises: MxsimError where files are absent or broken, or no producer recognises them. What is readable but wrong is a finding.
    """
    folder = open_folder(path)
    producer = next((one for one in PRODUCERS.values() if one.recognises(folder)), None)
    if producer is None:
        config = folder.config.get("quantization_config")
        held = f"quant_method {said(config.get('quant_method'))}" if isinstance(config, dict) else "no quantization_config"
        raise MxsimError(f"{folder.path} is no MX checkpoint that is known: its config has {held}; read are {', '.join(PRODUCERS)}")
    layout = producer.read(folder)
    findings = [*layout.findings, *_config_hash(folder)]
    if not layout.quantized:
        findings.append(Finding(severity=Severity.MISMATCH, where=str(folder.path.name), says="holds no quantised weight that can be read"))
    return Checkpoint(folder=folder, layout=layout, findings=tuple(findings))


def config_hash(config: Any) -> str:
    """SHA-256, hex, of a quantization_config in canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _config_hash(folder: CheckpointFolder) -> list[Finding]:
    """Files written by mxsim carry their config's hash, so that even what no bit depends on is held."""
    found = config_hash(folder.config.get("quantization_config"))
    return [
        Finding(
            severity=Severity.MISMATCH,
            where="quantization_config",
            says=f"is not the one that {file.path.name} was written under: its SHA-256 begins {found[:16]}",
        )
        for file in folder.files
        if file.metadata.get(CONFIG_HASH, found) != found
    ]
