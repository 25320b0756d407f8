"""Checkpoints that existing runtimes load: one module a target, each with a Target that says what it can hold and how it writes it."""

from dmx.exporters.exporting import export
from dmx.exporters.target import TARGETS, Target

__all__ = ["TARGETS", "Target", "export"]
