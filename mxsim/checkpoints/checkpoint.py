"""A checkpoint, read: its producer, its quantised weights, what is left in float, and what was found wrong on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, Layout, QuantizedTensor
from mxsim.checkpoints.safetensors_file import StoredTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What open_checkpoint gives. Tensors are mapped: nothing is read before it is asked for."""

    folder: CheckpointFolder
    layout: Layout
    findings: tuple[Finding, ...]

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def producer(self) -> str:
        return self.layout.producer

    @property
    def policy(self) -> str | None:
        return self.layout.policy

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor by the name that it is stored under."""
        return self.folder.tensors

    @property
    def quantized(self) -> tuple[QuantizedTensor, ...]:
        return self.layout.quantized

    @property
    def calibrated(self) -> Mapping[str, str]:
        return self.layout.calibrated

    def plain(self) -> list[StoredTensor]:
        """The tensors that are neither part of a quantised weight nor calibrated."""
        return [t for name, t in self.tensors.items() if name not in self.layout.used and name not in self.layout.calibrated]
