"""Why a stored block differs from what a policy makes of its float weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.elements import decode
from mxsim.formats import BlockFormat

#: In this order a mismatch is put down to one of them.
CAUSES = {
    "tensor scale": "the number stored for the whole tensor is not the one its largest magnitude gives",
    "zero block": "the scale of a block of zeros",
    "scale rule": "a scale one step off, and the elements under it",
    "scale offset": "scales off by one same number of steps throughout the tensor, and the elements under them",
    "zero sign": "the sign of an element that is zero",
    "clamp": "an element beyond the largest number of its format",
    "tie": "an element exactly between two numbers of its format",
    "other": "none of these: a wrong bit, another weight, or a rule that is not known",
}
SHOWN = 5  #: examples kept a tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One bit pattern that is not as expected."""

    what: str  #: element | scale | tensor scale
    index: tuple[int, ...]  #: of the element (row, column) or of the scale (row, block)
    expected: int
    found: int
    cause: str

    def __str__(self) -> str:
        where = f" [{', '.join(map(str, self.index))}]" if self.index else ""
        return f"{self.what}{where}: expected 0x{self.expected:02X}, found 0x{self.found:02X} ({self.cause})"

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "index": list(self.index),
            "expected": self.expected,
            "found": self.found,
            "cause": self.cause,
        }


@dataclass(slots=True, kw_only=True)
class Mismatches:
    """Bit patterns that are not as expected, counted by cause: every element code and every scale code counts once."""

    causes: dict[str, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)  #: found minus expected E8M0 code -> blocks

    @property
    def count(self) -> int:
        return sum(self.causes.values())

    def add(self, cause: str, count: int = 1, example: Example | None = None) -> None:
        if count:
            self.causes[cause] = self.causes.get(cause, 0) + count
        if example is not None and len(self.examples) < SHOWN:
            self.examples.append(example)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DifferingBlocks:
    """Blocks that differ somewhere."""

    row: npt.NDArray[np.int64]  #: (n,) where each stands
    block: npt.NDArray[np.int64]  #: (n,)
    x: npt.NDArray[np.float32]  #: (n, B) the float weights, zeros past the end of a row
    inside: npt.NDArray[np.bool_]  #: (n, B) what is not past the end
    expected_codes: npt.NDArray[np.uint8]  #: (n, B)
    found_codes: npt.NDArray[np.uint8]  #: (n, B)
    expected_scales: npt.NDArray[np.uint8]  #: (n,)
    found_scales: npt.NDArray[np.uint8]  #: (n,)


def count_causes(blocks: DifferingBlocks, format: BlockFormat, multiplier: np.float32 | None, into: Mismatches) -> None:
    """Put every differing code of some blocks down to a cause."""
    scale_differs = blocks.expected_scales != blocks.found_scales
    element_differs = (blocks.expected_codes != blocks.found_codes) & blocks.inside
    step = blocks.found_scales.astype(np.int64) - blocks.expected_scales
    zero_block = np.all(blocks.x == 0, axis=1)
    of_scale = np.where(zero_block, "zero block", np.where(np.abs(step) == 1, "scale rule", "other"))
    of_element = np.where(scale_differs[:, None], of_scale[:, None], _element_causes(blocks, format, multiplier))
    if not format.tensor_scale:
        offsets, counts = np.unique(step[~zero_block], return_counts=True)
        for offset, count in zip(offsets.tolist(), counts.tolist(), strict=True):
            into.offsets[offset] = into.offsets.get(offset, 0) + count
    for cause in CAUSES:
        into.add(cause, int(np.count_nonzero(scale_differs & (of_scale == cause))))
        into.add(cause, int(np.count_nonzero(element_differs & (of_element == cause))))
    for example in _examples(blocks, scale_differs, element_differs, of_scale, of_element):
        into.add(example.cause, 0, example)


def _element_causes(blocks: DifferingBlocks, format: BlockFormat, multiplier: np.float32 | None) -> npt.NDArray[np.str_]:
    """(n, B): why an element differs where its scale does not."""
    element = format.element
    expected = decode(blocks.expected_codes, element).astype(np.float64)
    found = decode(blocks.found_codes, element).astype(np.float64)
    scale = decode(blocks.expected_scales, format.scale).astype(np.float64) * (1.0 if multiplier is None else float(multiplier))
    with np.errstate(all="ignore"):
        magnitude = np.abs(blocks.x.astype(np.float64)) / scale[:, None]
        middle = (np.abs(expected) + np.abs(found)) / 2
    # Under a scale that is no power of two a quotient rounded to float32 may be a tie where the exact one is not.
    is_tie = np.isclose(magnitude, middle, rtol=2.0**-21, atol=0.0) if format.tensor_scale else magnitude == middle
    adjacent = np.abs(blocks.expected_codes.astype(np.int64) - blocks.found_codes) == 1
    both_zero = (expected == 0) & (found == 0)
    beyond = (magnitude > element.max) & (np.sign(expected) == np.sign(found))
    return np.where(both_zero, "zero sign", np.where(beyond, "clamp", np.where(is_tie & adjacent, "tie", "other")))


def _examples(
    blocks: DifferingBlocks,
    scale_differs: npt.NDArray[np.bool_],
    element_differs: npt.NDArray[np.bool_],
    of_scale: npt.NDArray[np.str_],
    of_element: npt.NDArray[np.str_],
) -> Iterator[Example]:
    """The first of them, in the tensor's order, scales first in their block."""
    width = blocks.x.shape[1]
    for n in range(min(len(blocks.row), SHOWN)):
        row, block = int(blocks.row[n]), int(blocks.block[n])
        if scale_differs[n]:
            yield Example(
                what="scale",
                index=(row, block),
                expected=int(blocks.expected_scales[n]),
                found=int(blocks.found_scales[n]),
                cause=str(of_scale[n]),
            )
        for k in np.flatnonzero(element_differs[n])[:SHOWN]:
            yield Example(
                what="element",
                index=(row, block * width + int(k)),
                expected=int(blocks.expected_codes[n, k]),
                found=int(blocks.found_codes[n, k]),
                cause=str(of_element[n, k]),
            )
