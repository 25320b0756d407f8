"""A device played by the CPU, so that what runs on a GPU can be tried where there is none.

Its tensors hold CPU tensors and compute as those do, bit for bit. What a GPU would refuse is refused: an operation on tensors of both
devices (but for numbers, of no dimension) and numpy's view of its memory. Its tensors say that they are CUDA's, so that a program takes
the branches that it would take there. It knows nothing of a GPU's own kernels, nor of their order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "simulated"
BETWEEN_DEVICES = {"aten::_to_copy", "aten::copy_"}


class OnDevice(torch.Tensor):
    """A tensor there. Made by operations, not by hand."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=f"{NAME}:0"
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def data(self) -> torch.Tensor:
        return OnDevice(self.held.detach())

    @data.setter
    def data(self, value: OnDevice) -> None:
        self.held = value.held

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert the device's tensor to numpy: copy it to the CPU first")

    __array__ = numpy


def run(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation on what the tensors hold. Raises: RuntimeError where tensors of two devices meet."""
    name, device = operation._schema.name, kwargs.get("device")
    known: dict[int, OnDevice] = {}  # an operation in place returns its operand
    here = False

    def held(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal here
        if isinstance(tensor, OnDevice):
            known[id(tensor.held)] = tensor
            return tensor.held
        here = here or tensor.dim() > 0
        return tensor

    args_held, kwargs_held = _mapped(held, args), {key: _mapped(held, value) for key, value in kwargs.items()}
    if known and here and name not in BETWEEN_DEVICES:
        raise RuntimeError(f"{name}: tensors on the device and on the CPU")
    if device is not None:
        kwargs_held["device"] = torch.device("cpu")
    result = operation(*args_held, **kwargs_held)
    if name == "aten::copy_":
        return args[0]
    if torch.device(device).type != NAME if device is not None else not known:
        return result
    return _mapped(lambda tensor: known[id(tensor)] if id(tensor) in known else OnDevice(tensor), result)


def _mapped(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The value, its tensors changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    return type(value)([_mapped(change, one) for one in value]) if type(value) in (list, tuple) else value


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation._can_decompose():  # as it is outside inference mode, before it comes here
            with self:
                return operation.decompose(*args, **kwargs or {})
        return run(operation, args, kwargs or {})


_register = cache(partial(backend_registration._setup_privateuseone_for_python_backend, rename=NAME))


@contextmanager
def simulated_device() -> Iterator[None]:
    """While entered, the device NAME is there."""
    _register()
    with torch.autograd.set_multithreading_enabled(False), _Everywhere():  # PyTorch's own threads know real devices alone
        yield
