"""Two files of arrays, tensor by tensor: how many units in the last place they are apart, and where most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.arrays import FLOATS
from mxsim.errors import MxsimError
from mxsim.files import PIECE, StoredArray, open_arrays, parts
from mxsim.ulps import NO_DISTANCE, ulp_distance


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
    return _measured(name, a, b, worst, size)


def _measured(name: str, a: StoredArray, b: StoredArray, worst: int, size: int) -> TensorComparison:
    """Two arrays of one shape and dtype, piece by piece. Distances are whole numbers, so the mean is exact until rounded."""
    is_counted = a.dtype in FLOATS
    differing = without_distance = total = largest = 0
    places: list[Place] = []
    for first, x, y in _pieces(a, b):
        at = np.flatnonzero(_differs(x, y))
        differing += at.size
        if not is_counted or not at.size:
            continue
        distance = ulp_distance(x[at], y[at])
        steps = distance[distance != NO_DISTANCE]
        without_distance += at.size - steps.size
        total += int(steps.sum())
        largest = max(largest, int(steps.max(initial=0)))
        for i in np.argsort(-distance, kind="stable")[:worst].tolist():
            index = tuple(int(n) for n in np.unravel_index(first + int(at[i]), a.shape))
            ulps = None if distance[i] == NO_DISTANCE else int(distance[i])
            places.append(Place(index=index, a=float(x[at[i]]), b=float(y[at[i]]), ulps=ulps))
        places = sorted(places, key=lambda place: -(NO_DISTANCE if place.ulps is None else place.ulps))[:worst]
    counted = size - without_distance if is_counted else 0
    return TensorComparison(
        name=name,
        equal=not differing,
        elements=size,
        differing=differing,
        max_ulps=largest if counted else None,
        mean_ulps=total / counted if counted else None,
        detail=f"{differing} of {size} differ" if differing and not is_counted else "",
        places=tuple(places),
    )


def _pieces(a: StoredArray, b: StoredArray) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]:
    """(first element's number in C order, elements of one array, and of the other): at most PIECE at a time, (n,)."""
    inner = math.prod(a.shape[1:])
    for (start, part), (_, other) in zip(parts(a), parts(b), strict=True):
        x, y = (np.ascontiguousarray(rows).reshape(-1) for rows in (part, other))
        for first in range(0, x.size, PIECE):
            yield start * inner + first, x[first : first + PIECE], y[first : first + PIECE]


def _differs(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which elements of two contiguous arrays (n,) of one dtype differ in a bit."""
    width = x.dtype.itemsize
    bits, words = (f"u{width}", 1) if width in (1, 2, 4, 8) else ("u1", width)
    differs = np.asarray(x.view(bits) != y.view(bits))
    return differs if words == 1 else np.asarray(differs.reshape(-1, words).any(axis=1))
