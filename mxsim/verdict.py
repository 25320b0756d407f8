"""What was found of one tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mxsim.causes import Example

PROVEN, MISMATCH, UNPROVEN = "proven", "mismatch", "not provable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One tensor of a checkpoint: a weight with its scales, or a tensor left in float."""

    name: str
    format: str  #: a block format, or the dtype in the file
    elements: int
    status: str  #: PROVEN, MISMATCH or UNPROVEN
    mismatches: int = 0  #: element codes, scale codes and tensor scales that are not as expected
    detail: str = ""
    policy: str | None = None  #: the rule that explains it, or else comes closest
    causes: dict[str, int] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "format": self.format,
            "elements": self.elements,
            "status": self.status,
            "mismatches": self.mismatches,
            "detail": self.detail,
            "policy": self.policy,
            "causes": dict(self.causes),
            "examples": [example.as_json() for example in self.examples],
        }
