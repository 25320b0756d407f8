"""Linears that share an input (q, k and v; gate and up) share what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Made = TypeVar("Made")


class LastInput(Generic[Made]):
    """What was made of the input that was seen last, by name. One that was changed in place since is another input."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Let go of it."""
        self._input: torch.Tensor | None = None
        self._version = -1
        self._made: dict[Hashable, Made] = {}

    def made(self, x: torch.Tensor, name: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` makes of x, the first time that this name is asked for."""
        if x.is_inference():  # which have no versions
            return make()
        if x is not self._input or x._version != self._version:
            self._input, self._version, self._made = x, x._version, {}
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]
