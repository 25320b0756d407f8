"""A live module is the caller's: what dMX changes of it while it works is put back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
Result = TypeVar("Result")


class AsFound:
    """The mode of a live module's parts and which of its parameters ask for gradients, to be put back; once.

    Of anything else, such as a path or a loaded model, nothing is kept.
    """

    def __init__(self, model: object) -> None:
        module = model if isinstance(model, nn.Module) else nn.Module()
        self._modes = [(part, part.training) for part in module.modules()]
        self._gradients = [(parameter, parameter.requires_grad) for parameter in module.parameters()]

    def restore(self) -> None:
        """Put it back. A second call does nothing."""
        for part, training in self._modes:
            part.training = training
        with torch.inference_mode():  # parameters that were made in it may ask for gradients nowhere else
            for parameter, requires_grad in self._gradients:
                parameter.requires_grad_(requires_grad)
        self._modes, self._gradients = [], []

    def __enter__(self) -> AsFound:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.restore()


class Forwards:
    """Modules that compute something else for a while. restore() gives each its forward back: the class's own where it had no other."""

    def __init__(self) -> None:
        self._found: dict[nn.Module, Any] = {}

    def replace(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._found.setdefault(module, module.__dict__.get("forward"))
        module.forward = forward

    def restore(self) -> None:
        """Put them back. A second call does nothing."""
        for module, forward in self._found.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward
        self._found = {}


def gives_back(function: Callable[P, Result]) -> Callable[P, Result]:
    """Of a function whose first argument is a model: a live module is afterwards as it was found.

    Meanwhile gradients can be had, whether or not the caller turned them off.
    """

    @wraps(function)
    def around(*args: P.args, **kwargs: P.kwargs) -> Result:
        found = AsFound(args[0] if args else kwargs.get("model"))
        # Left, not entered where it is off: that would change how many threads go backwards.
        outside = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
        with found, outside, torch.enable_grad():
            return function(*args, **kwargs)

    return around
