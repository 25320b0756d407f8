"""What a method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dmx.allocators.score_cache import ScoreCache
from dmx.budget import Constraint
from dmx.decisions import DecisionSpace
from dmx.errors import DmxError
from dmx.models import LoadedModel
from dmx.search_config import check_seed
from dmx.text import TokenText

Choice = npt.NDArray[np.int64]  #: (decisions,) indices of pairs
Scores = npt.NDArray[np.float64]  #: (decisions, pairs): the loss that each pair is predicted to cost, less is better


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A model's decisions under budgets, with the text that scores are measured on."""

    model: LoadedModel
    space: DecisionSpace
    constraints: tuple[Constraint, ...]
    policy: str = "ocp"
    read_text: Callable[[], TokenText]  #: only methods that measure call it
    cache: ScoreCache = field(default_factory=ScoreCache)
    progress: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)  #: of the method

    def is_met(self, choice: Choice) -> bool:
        return all(one.is_met(choice) for one in self.constraints)

    def shares(self) -> npt.NDArray[np.float64]:
        """(decisions, pairs): what each pair costs, as a share of what the budgets leave free: one number for all budgets together."""
        total = np.zeros((len(self.space.decisions), len(self.space.pairs)))
        for one in self.constraints:
            total += one.costs / max(one.limit - one.fixed, np.finfo(np.float64).tiny)
        return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """A choice that meets every budget."""

    choice: Choice
    why_no_dearer: str  #: why no dearer pair is taken though one would fit; told where one would
    predicted_loss: float | None = None  #: the sum of its scores; None for methods that measure nothing
    settings: Mapping[str, Any] = field(default_factory=dict)  #: what was used, defaults filled in


Method = Callable[[Problem], Allocation]


def sample_windows(text: TokenText, tokens: int, seed: int) -> TokenText:
    """Windows of about so many tokens together, drawn by the seed and kept in their order; all of them where there are no more."""
    if tokens < 1:
        raise DmxError(f"scores on {tokens} tokens: pass a whole number of at least 1")
    check_seed(seed)
    wanted = max(1, tokens // text.windows.shape[1])
    if wanted >= len(text.windows):
        return text
    drawn = torch.randperm(len(text.windows), generator=torch.Generator().manual_seed(seed))[:wanted]
    return TokenText(name=text.name, sha256=text.sha256, windows=text.windows[drawn.sort().values])
