"""Quantise the arrays of a file into a .safetensors file, piece by piece, counting what was lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import FLOATS, NAMES, checked_axis
from mxsim.conversion import quantize_part, tensor_amax
from mxsim.errors import MxsimError
from mxsim.files import SafetensorsWriter, StoredArray, open_arrays, parts, renamed_when_whole
from mxsim.formats import BlockFormat, block_format
from mxsim.name_patterns import is_named
from mxsim.policies import policy_of
from mxsim.tensor import MXTensor
from mxsim.version import VERSION


@dataclass(slots=True, kw_only=True)
class QuantizationError:
    """What quantising a tensor lost."""

    name: str
    shape: tuple[int, ...]
    elements: int = 0
    signal: float = 0.0  #: sum of squares of the inputs that are finite before and after
    noise: float = 0.0  #: sum of squares of their errors
    max_error: float = 0.0  #: largest absolute error
    saturated: int = 0  #: larger than the largest number of their block
    flushed: int = 0  #: not zero, and zero afterwards
    nonfinite: int = 0  #: inputs that are Inf or NaN
    lost: int = 0  #: finite inputs that are Inf or NaN afterwards, as the neighbours of a NaN are; in no other count

    @property
    def counted(self) -> int:
        """Inputs that are finite before and after: those whose errors are known."""
        return self.elements - self.nonfinite - self.lost

    @property
    def snr_db(self) -> float | None:
        """Signal to noise; None where nothing was lost, or nothing was counted."""
        return 10 * math.log10(self.signal / self.noise) if self.noise > 0 and self.signal > 0 else None

    def add(self, x: npt.NDArray[Any], q: MXTensor) -> None:
        """Count one piece."""
        from mxsim.kernels.loss import Losses, losses

        element = q.format.element
        sign_mask = 0 if element.is_fixed_point else element.sign_mask
        wide = np.ascontiguousarray(x, np.float32).reshape(-1)
        found = Losses(*losses(wide, q.dequantize().reshape(-1), q.codes.reshape(-1), element.max_code, sign_mask))
        self.elements += x.size
        self.signal = math.fsum([self.signal, *found.signal])
        self.noise = math.fsum([self.noise, *found.noise])
        self.max_error = max(self.max_error, float(found.max_error.max(initial=0.0)))
        self.saturated += int(found.saturated.sum())
        self.flushed += int(found.flushed.sum())
        self.nonfinite += int(found.nonfinite.sum())
        self.lost += int(found.lost.sum())

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shape": list(self.shape),
            "elements": self.elements,
            "counted": self.counted,
            "snr_db": self.snr_db,
            "max_error": self.max_error if self.counted else None,
            "saturated": self.saturated / max(self.elements, 1),
            "flushed": self.flushed / max(self.elements, 1),
            "nonfinite": self.nonfinite,
            "lost": self.lost,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for; see mxsim.quantize."""

    format: str
    axis: int = -1
    policy: str = "ocp"
    scale_rule: str | None = None
    rounding: str | None = None
    block_size: int | None = None
    seed: int | None = None
    tensors: Sequence[str] = ()  #: names or patterns; none: every float tensor of two dimensions or more, or the only one there is


def quantize_file(
    source: Path, target: Path, request: Request, advance: Callable[[int, int], None] = lambda count, total: None
) -> tuple[list[QuantizationError], list[str]]:
    """Quantise `source` (.npy or .safetensors) into `target` (.safetensors).

    Args: advance: told the number of elements done since it was last told, and how many there are in all.
    Returns: what was lost in each tensor quantised, and the names of those copied as they are.
    """
    if target.suffix != ".safetensors":
        raise MxsimError(f"the output {target} must end in .safetensors")
    if target.exists() and source.exists() and target.samefile(source):
        raise MxsimError(f"the output {target} is the input: give another name")
    format = block_format(request.format, request.block_size)
    with open_arrays(source) as (arrays, _):
        chosen = choose(arrays, request.tensors)
        copied = [a for a in arrays if a not in chosen]
        layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {a.name: (a.dtype, a.shape) for a in copied}
        for array in chosen:
            rule = policy_of(request.policy).conversion(format.name, NAMES[array.dtype]).two_level
            divides = rule is not None and rule.divides
            made = layout_of(array, format, checked_axis(request.axis, len(array.shape)), divides)
            for name in made.keys() & layout.keys():
                raise MxsimError(
                    f"quantising tensor {array.name!r} writes {name!r}, but {source} holds a tensor of that name, which would be copied: "
                    f"rename one of them, or leave {array.name!r} out with --tensors"
                )
            layout |= made
        metadata = {
            "producer": f"mxsim {VERSION}",
            "format": format.name,
            "axis": str(request.axis),
            "block_size": str(format.block_size),
            "policy": request.policy,
        }
        total = sum(math.prod(array.shape) for array in chosen)
        with renamed_when_whole(target) as temporary, SafetensorsWriter(temporary, layout, metadata) as writer:
            errors = [_quantize_array(array, format, request, writer, lambda count: advance(count, total)) for array in chosen]
            for array in copied:
                for start, part in parts(array):
                    writer.write(array.name, part, start)
    return errors, [a.name for a in copied]


def choose(arrays: Sequence[StoredArray], patterns: Sequence[str]) -> list[StoredArray]:
    """The arrays to quantise."""
    floats = [a for a in arrays if a.dtype in FLOATS and a.shape]
    if patterns:
        chosen = [a for a in arrays if is_named(a.name, patterns)]
        for pattern in patterns:
            if not any(is_named(a.name, [pattern]) for a in arrays):
                raise MxsimError(f"no tensor matches {pattern!r}: there are {', '.join(a.name for a in arrays[:20])}")
        for array in chosen:
            if array not in floats:
                raise MxsimError(f"tensor {array.name!r} is {array.dtype} {array.shape}: float32, float16 and bfloat16 can be quantised")
        return chosen
    chosen = floats if len(arrays) == 1 else [a for a in floats if len(a.shape) >= 2]
    if not chosen:
        held = ", ".join(f"{a.name} {a.dtype} {a.shape}" for a in arrays[:5]) or "nothing"
        raise MxsimError(f"nothing to quantise: the file holds {held}; float32, float16 and bfloat16 arrays are taken")
    return chosen


def layout_of(array: StoredArray, format: BlockFormat, axis: int, divides: bool) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The tensors that stand for a quantised one. Args: divides: whether the policy stores nvfp4's divisor, which is kept too."""
    scales = [-(-n // format.block_size) if d == axis else n for d, n in enumerate(array.shape)]
    layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        f"{array.name}.codes": (np.dtype(np.uint8), array.shape),
        f"{array.name}.scales": (np.dtype(np.uint8), tuple(scales)),
    }
    if format.tensor_scale:
        layout[f"{array.name}.tensor_scale"] = (np.dtype(np.float32), ())
        if divides:
            layout[f"{array.name}.tensor_divisor"] = (np.dtype(np.float32), ())
    return layout


def _quantize_array(
    array: StoredArray, format: BlockFormat, request: Request, writer: SafetensorsWriter, advance: Callable[[int], None]
) -> QuantizationError:
    axis = checked_axis(request.axis, len(array.shape))
    block = format.block_size
    amax = tensor_amax((part for _, part in parts(array)), format, request.policy)
    error = QuantizationError(name=array.name, shape=array.shape)
    inner = math.prod(array.shape[1:])
    for start, part in parts(array, block if axis == 0 else 1):
        q = quantize_part(
            part,
            format,
            axis,
            request.policy,
            request.scale_rule,
            request.rounding,
            None,
            request.seed,
            amax,
            start * inner,
        )
        writer.write(f"{array.name}.codes", q.codes, start)
        writer.write(f"{array.name}.scales", q.scales, start // block if axis == 0 else start)
        if q.tensor_scale is not None:
            writer.write(f"{array.name}.tensor_scale", np.asarray(q.tensor_scale))
        if q.tensor_divisor is not None:
            writer.write(f"{array.name}.tensor_divisor", np.asarray(q.tensor_divisor))
        error.add(part, q)
        advance(part.size)
    return error
