"""Where a model leaves the finite numbers: on the way to a loss, or back from it. In words, for an error to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def where_not_finite(module: nn.Module, run: Callable[[], Any]) -> str:
    """Which module first gives a value that is not finite. Args: run: the forward pass, again."""
    found: list[str] = []

    def look(name: str, output: torch.Tensor) -> None:
        if not found and not bool(torch.isfinite(output).all()):
            found.append(name)

    with _outputs_shown(module, look), torch.no_grad():
        run()
    if not found:
        return "every module's output is finite, but not what is made of them"
    own = module.get_submodule(found[0]).named_parameters(recurse=False)
    broken = [leaf for leaf, parameter in own if not bool(torch.isfinite(parameter).all())]
    cause = f", whose own {broken[0]} holds values that are not finite: mend the checkpoint" if broken else ""
    return f"the first values that are not finite come out of {found[0]!r}{cause}"


def where_gradient_not_finite(module: nn.Module, loss: Callable[[], torch.Tensor]) -> str:
    """At which module's output a gradient that is not finite first arrives. Args: loss: the loss, with its graph, again."""
    found: list[str] = []

    def look(name: str, output: torch.Tensor) -> None:
        def arrived(gradient: torch.Tensor) -> None:
            if not found and not bool(torch.isfinite(gradient).all()):
                found.append(name)

        if output.requires_grad:
            output.register_hook(arrived)

    with _outputs_shown(module, look):
        loss().backward()
    if not found:
        return "it is finite at every module's output"
    return f"on the way back the first gradient that is not finite arrives at the output of {found[0]!r}"


@contextmanager
def _outputs_shown(module: nn.Module, look: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """For a while every module that holds no others shows its outputs."""

    def show(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _, __, output: look(name, output) if isinstance(output, torch.Tensor) else None

    handles = [part.register_forward_hook(show(name)) for name, part in module.named_modules() if not list(part.children())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
