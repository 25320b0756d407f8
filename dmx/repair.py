"""Which of a repair's choices within the budgets is taken."""

from __future__ import annotations

from collections.abc import Mapping

from dmx.refinement import Choice, Measure

#: The choice that has nothing to exchange, where the budgets have room for it: the first of the candidates.
TOP = "the ladder's top"


def best_of(candidates: Mapping[str, Choice], measure: Measure) -> str:
    """Which measures best: the ladder's top where it is there, else the one with the least KL; unless another measures better.

    Differences in KL recur on other text, and where the loss differs by less than its error they are all there is to go by. Another has to
    be better by one to two standard errors, the more of the loss is KL already; by two over the top. Where KL is not measured (loss "ce"),
    the first candidate stands in for the one with the least.
    """
    best, share = next(iter(candidates)), measure.calibration.share
    if best != TOP and measure.calibration.has_kl:
        for name, candidate in candidates.items():
            if measure.has_less_kl(candidate, candidates[best]):
                best = name
    for name, candidate in candidates.items():
        if measure.is_better(candidate, candidates[best], errors=2.0 if best == TOP else 2.0 - share):
            best = name
    return best
