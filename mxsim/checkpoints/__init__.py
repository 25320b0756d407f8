"""MX checkpoints on disk: one module a producer, each of which finds its own layout in files alone."""

from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.layout import Finding, QuantizedTensor
from mxsim.checkpoints.reader import open_checkpoint

__all__ = ["Checkpoint", "Finding", "QuantizedTensor", "open_checkpoint"]
