"""Two files of arrays, tensor by tensor: how many units in the last place they are apart, and where most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import FLOATS
from mxsim.errors import MxsimError
from mxsim.files import StoredArray, open_arrays
from mxsim.ulps import NO_DISTANCE, error_statistics, ulp_distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One element that differs."""

    index: tuple[int, ...]
    a: float
    b: float
    ulps: int | None  #: None where NaN or Inf stands beside something else

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.index))}] {self.a:.9g} / {self.b:.9g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorComparison:
    """One tensor of both files."""

    name: str
    equal: bool  #: to the bit
    elements: int
    differing: int
    max_ulps: int | None = None
    mean_ulps: float | None = None
    detail: str = ""  #: why there is nothing to count
    places: tuple[Place, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_files(a: Path, b: Path, worst: int = 3, advance: Callable[[int], object] = lambda elements: None) -> list[TensorComparison]:
    """Compare every tensor; a single array meets a single array whatever their names.

    Args: worst: places kept for each tensor.  advance: told a tensor's elements when it is done.
    Raises: MxsimError where a file cannot be read.
    """
    with open_arrays(a) as (left, _), open_arrays(b) as (right, _):
        ours, theirs = {x.name: x for x in left}, {x.name: x for x in right}
        if len(left) == len(right) == 1:
            theirs = {left[0].name: right[0]}
        found = []
        for name in dict.fromkeys([*ours, *theirs]):
            found.append(_compared(name, ours.get(name), theirs.get(name), worst))
            advance(found[-1].elements)
        return found


def _compared(name: str, a: StoredArray | None, b: StoredArray | None, worst: int) -> TensorComparison:
    if a is None or b is None:
        held = a or b
        size = 0 if held is None else int(np.prod(held.shape, dtype=np.int64))
        where = "second" if b is None else "first"
        return TensorComparison(name=name, equal=False, elements=size, differing=size, detail=f"missing in the {where} file")
    if np.issubdtype(a.dtype, np.longdouble) or np.issubdtype(a.dtype, np.clongdouble):
        raise MxsimError(f"tensor {name!r} is {a.dtype}, of whose bytes some mean nothing: save it as float64 or complex128")
    size = int(np.prod(a.shape, dtype=np.int64))
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        detail = f"{a.dtype} {a.shape} beside {b.dtype} {b.shape}"
        return TensorComparison(name=name, equal=False, elements=size, differing=size, detail=detail)
    x, y = np.asarray(a.read()), np.asarray(b.read())
    differs = _differs(x, y)
    differing = int(np.count_nonzero(differs))
    if x.dtype not in FLOATS:
        detail = f"{differing} of {size} differ" if differing else ""
        return TensorComparison(name=name, equal=not differing, elements=size, differing=differing, detail=detail)
    statistics = error_statistics(x, y)
    places: list[Place] = []
    if differing:
        distance = ulp_distance(x, y).reshape(-1)
        order = np.flatnonzero(differs)
        for at in order[np.argsort(-distance[order].astype(np.float64), kind="stable")][:worst].tolist():
            ulps = int(distance[at])
            index = tuple(int(i) for i in np.unravel_index(at, x.shape))
            place = Place(index=index, a=float(x.reshape(-1)[at]), b=float(y.reshape(-1)[at]), ulps=None if ulps == NO_DISTANCE else ulps)
            places.append(place)
    return TensorComparison(
        name=name,
        equal=not differing,
        elements=size,
        differing=differing,
        max_ulps=statistics.max_ulps,
        mean_ulps=statistics.mean_ulps,
        places=tuple(places),
    )


def _differs(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which elements of two arrays of one shape and dtype differ in a bit, in C order."""
    width = x.dtype.itemsize
    bits, words = (f"u{width}", 1) if width in (1, 2, 4, 8) else ("u1", width)
    a, b = (np.ascontiguousarray(array).reshape(-1).view(bits) for array in (x, y))
    differs = np.asarray(a != b)
    return differs if words == 1 else np.asarray(differs.reshape(-1, words).any(axis=1))
