"""What a choice spends of its budgets, what it leaves, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dmx.budget import ROUNDING, Constraint, budget_names


def leftovers(choice: npt.NDArray[np.int64], constraints: Sequence[Constraint], otherwise: str) -> dict[str, Any]:
    """{"spent_of_budget", "left_of_budget", "left_because"}: two numbers for each budget, and one reason.

    Args: otherwise: why a method takes no dearer pair though one would fit.
    """
    names = budget_names([one.budget for one in constraints])
    return {
        "spent_of_budget": {name: one.spent_as_asked(choice) for name, one in zip(names, constraints, strict=True)},
        "left_of_budget": {name: one.left(choice) for name, one in zip(names, constraints, strict=True)},
        "left_because": _why(choice, constraints, otherwise),
    }


def _why(choice: npt.NDArray[np.int64], constraints: Sequence[Constraint], otherwise: str) -> str:
    here = np.arange(len(choice))
    ups = [one.costs - one.costs[here, choice][:, None] for one in constraints]
    dearer = np.any([up > ROUNDING * one.limit for up, one in zip(ups, constraints, strict=True)], axis=0)
    fits = np.all([up <= one.limit * (1 + ROUNDING) - one.spent(choice) for up, one in zip(ups, constraints, strict=True)], axis=0)
    if not dearer.any():
        return "every decision has its dearest pair"
    if not (dearer & fits).any():
        return "no single dearer pair fits in what is left"
    return otherwise
