"""The exact choice: of one pair for each decision, least in predicted loss, within every budget. Mixed-integer, by scipy's HiGHS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, vstack

from dmx.budget import ROUNDING, Constraint, budget_names
from dmx.errors import DmxError
from dmx.quiet import quiet_c_library

#: HiGHS holds constraints to 1e-6 or so, and takes costs that are so near whole multiples of one another for such: it is given this much
#: more room, as a share, so that a choice that spends all of a budget is seen ...
SLACK = 1e-6
#: ... and a choice that it then takes beyond the budget is left out and the rest solved again, so often. After that they are too many, as
#: of layers that cost the same, and the room is made smaller by what the solver does not see.
BEYOND = 8


def best_choice(scores: npt.NDArray[np.float64], constraints: Sequence[Constraint]) -> npt.NDArray[np.int64]:
    """The choice of least total score that meets every constraint exactly.

    Args: scores: (decisions, pairs), finite: the predicted loss of each.  Returns: (decisions,) indices of pairs.
    Raises: DmxError where scores are not finite, or no choice meets all budgets together.
    """
    if not np.isfinite(scores).all():
        raise DmxError("a score is NaN or infinite: a loss or a gradient that it was made of was not finite")
    choice = _solved(scores, constraints)
    if choice is not None:
        return choice
    # Where the budgets have room for hardly more than one choice, the solver's tolerance may miss it; what check_together found meets them.
    for one, cheapest in zip(constraints, _cheapest(constraints), strict=True):
        if cheapest is not None and one.is_met(cheapest):
            return cheapest
    raise DmxError(f"no choice of formats meets {_texts(constraints)} together: loosen one of them")


def check_together(constraints: Sequence[Constraint]) -> None:
    """Whether one choice meets them all. Args: constraints: each of which some choice meets.

    Raises: DmxError where none does, with the least that each budget can be while the others hold, to be asked for as it is told.
    """
    if len(constraints) < 2:
        return
    ways = []
    for i, (one, cheapest) in enumerate(zip(constraints, _cheapest(constraints), strict=True)):
        others = _texts([*constraints[:i], *constraints[i + 1 :]])
        if cheapest is None:
            ways.append(f"no {one.budget.kind} is enough for {others}, which exclude each other already")
        elif one.is_met(cheapest):
            return
        else:
            ways.append(f"{one.asked(one.spent(cheapest))} is the least with {others}")
    raise DmxError(f"no choice of formats meets {_texts(constraints)} together: {'; '.join(ways)}")


def _texts(constraints: Sequence[Constraint]) -> str:
    return " and ".join(budget_names([one.budget for one in constraints]))


def _cheapest(constraints: Sequence[Constraint]) -> list[npt.NDArray[np.int64] | None]:
    """For each constraint, the choice that spends the least of it within all others; None where nothing is within them."""
    return [_solved(one.costs, [*constraints[:i], *constraints[i + 1 :]]) for i, one in enumerate(constraints)]


def _solved(scores: npt.NDArray[np.float64], constraints: Sequence[Constraint]) -> npt.NDArray[np.int64] | None:
    """The choice of least total score that meets every constraint exactly; None where the solver finds none.

    A constraint is told as what a pair costs more than its decision's cheapest, in shares of the room that the budget leaves for that: the
    solver's tolerance is then one of that room, however little of the whole it is.
    """
    decisions, pairs = scores.shape
    spread = float(np.ptp(scores)) or 1.0
    fits = np.ones(scores.shape, bool)
    rows: list[npt.NDArray[np.float64]] = []
    for one in constraints:
        extra = one.costs - one.costs.min(1, keepdims=True)
        room = one.limit * (1 + ROUNDING) - one.fixed - one.costs.min(1).sum()
        if room <= 0:
            return None
        fits &= extra <= room
        rows.append(np.where(extra <= room, extra, 0.0).reshape(-1) / room)
    matrix = vstack([csr_array(np.kron(np.eye(decisions), np.ones(pairs))), *(csr_array(row.reshape(1, -1)) for row in rows)])
    least, most = np.r_[np.ones(decisions), [-np.inf] * len(rows)], np.r_[np.ones(decisions), np.full(len(rows), 1 + SLACK)]
    for attempt in range(BEYOND + 1):
        if attempt == BEYOND:
            most[decisions : decisions + len(rows)] = 1 - 2 * SLACK
        with quiet_c_library():  # HiGHS has a print left in it
            result = milp(
                scores.reshape(-1) / spread,
                integrality=np.ones(scores.size),
                bounds=Bounds(0, fits.reshape(-1).astype(float)),
                constraints=LinearConstraint(matrix, least, most),
                options={"mip_rel_gap": 0.0},
            )
        if result.x is None:
            return None
        choice = np.asarray(result.x.reshape(decisions, pairs).argmax(1), np.int64)
        if all(one.is_met(choice) for one in constraints):
            return choice
        taken = np.zeros(scores.shape)
        taken[np.arange(decisions), choice] = 1.0
        matrix, least, most = vstack([matrix, csr_array(taken.reshape(1, -1))]), np.r_[least, -np.inf], np.r_[most, decisions - 1]
    return None


def shadow_prices(scores: npt.NDArray[np.float64], constraints: Sequence[Constraint]) -> npt.NDArray[np.float64]:
    """What more of each budget is worth: loss saved per budget's worth, at the best fractional choice.

    Args: scores: (decisions, pairs).  Returns: (constraints,), none below 0; 0 where a budget does not bind.
    """
    decisions, pairs = scores.shape
    spread = float(np.ptp(scores)) or 1.0
    result = linprog(
        scores.reshape(-1) / spread,
        A_ub=np.array([one.costs.reshape(-1) / one.limit for one in constraints]),
        b_ub=np.array([1 - one.fixed / one.limit for one in constraints]),
        A_eq=np.kron(np.eye(decisions), np.ones(pairs)),
        b_eq=np.ones(decisions),
        bounds=(0, 1),
    )
    if result.status != 0:
        return np.zeros(len(constraints))
    return np.asarray(np.maximum(-result.ineqlin.marginals, 0) * spread, np.float64)
