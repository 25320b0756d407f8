"""What an export needs to know of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dmx.exporters import compressed_tensors, mxsim_layout, quark
from dmx.exporters.layer import Layer
from mxsim.registry import Registry
from mxsim.tensor import MXTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A layout on disk."""

    name: str
    pieces: bool  #: whether transformers merges what a model's files hold in pieces, such as experts, where it is left in float
    refusals: Callable[[Mapping[str, Layer], str], list[str]]  #: layers and policy -> what cannot be held, each with its layer
    tensors: Callable[[MXTensor], dict[str, npt.NDArray[Any]]]  #: suffix -> array, of one layer
    shapes: Callable[[Layer], dict[str, tuple[np.dtype[Any], tuple[int, ...]]]]  #: suffix -> dtype and shape, before anything is converted
    config: Callable[[Mapping[str, Layer], list[str], str], dict[str, Any]]  #: layers, linears left in float, policy -> quantization_config


TARGETS: Registry[Target] = Registry(
    "export target",
    [
        Target(name=name, pieces=pieces, refusals=it.refusals, tensors=it.tensors, shapes=it.shapes, config=it.config)
        for name, it, pieces in (("compressed-tensors", compressed_tensors, False), ("quark", quark, True), ("mxsim", mxsim_layout, True))
    ],
)
