"""One row of evidence: how many results were compared with a reference, and how many differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Results of one kind against one reference."""

    what: str
    reference: str
    cases: int
    mismatches: int
    example: str = ""  #: the first mismatch, for the reader of a failing test
    left_out: int = 0  #: results of the reference that were not compared
    why: str = ""  #: they were not

    def require_equal(self) -> None:
        """Fail unless something was compared and nothing differed."""
        assert self.cases > 0, f"{self.what}: nothing was compared"
        assert self.mismatches == 0, f"{self.what} against {self.reference}: {self.mismatches} of {self.cases} differ, first {self.example}"


def merged(what: str, comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
    """One row for each reference."""
    by_reference: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_reference.setdefault(comparison.reference, []).append(comparison)
    for reference, parts in by_reference.items():
        yield Comparison(
            what=what,
            reference=reference,
            cases=sum(part.cases for part in parts),
            mismatches=sum(part.mismatches for part in parts),
            example=next((f"{part.what}: {part.example}" for part in parts if part.mismatches), ""),
            left_out=sum(part.left_out for part in parts),
            why="; ".join(dict.fromkeys(part.why for part in parts if part.left_out)),
        )


def compare(
    what: str,
    reference: str,
    got: npt.NDArray[np.generic],
    want: npt.NDArray[np.generic],
    describe: Callable[[int], str] = str,
) -> Comparison:
    """Element by element equality of integer arrays. `describe` names the input of the i-th element in C order."""
    if got.shape != want.shape or got.dtype.kind not in "iu" or want.dtype.kind not in "iu":
        example = f"{got.dtype}{got.shape} where {want.dtype}{want.shape} was expected"
        return Comparison(what=what, reference=reference, cases=want.size, mismatches=want.size, example=example)
    wrong = np.flatnonzero((got != want).ravel())
    example = ""
    if wrong.size:
        first = int(wrong[0])
        example = f"{describe(first)}: got {int(got.ravel()[first]):#x}, expected {int(want.ravel()[first]):#x}"
    return Comparison(what=what, reference=reference, cases=want.size, mismatches=wrong.size, example=example)


def float32_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """The bits, every NaN as the canonical one: which NaN a library returns is nobody's promise."""
    assert values.dtype == np.float32, values.dtype
    return np.where(np.isnan(values), np.uint32(0x7FC00000), np.ascontiguousarray(values).view(np.uint32))
