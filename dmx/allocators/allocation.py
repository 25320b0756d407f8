"""dmx.allocate: one call for all of the methods."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import nn

from dmx.allocators import first_last, first_order, fisher, kl, kl_per_bit, uniform
from dmx.allocators.problem import Method, Problem, sample_windows
from dmx.allocators.score_cache import ScoreCache
from dmx.budget import Budget, Scenario, achieved, check_scenario, constraints, described, told_scenario
from dmx.decisions import decision_space
from dmx.errors import DmxError
from dmx.knapsack import check_together
from dmx.leftovers import leftovers
from dmx.live_modules import gives_back
from dmx.models import LoadedModel, load_model
from dmx.text import TokenText, fitting, read_text, tokenize
from mxsim.assignment import Assignment
from mxsim.errors import unknown_name
from mxsim.policies import POLICIES

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "uniform": uniform.allocate,
        "first_last": first_last.allocate,
        "kl": kl.allocate,
        "kl_per_bit": kl_per_bit.allocate,
        "first_order": first_order.allocate,
        "fisher": fisher.allocate,
    }
)
#: method -> the settings that it takes
SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"first_order": first_order.DEFAULTS})

TOKENS = 32768  #: of text that scores are measured on
LONGEST_SCORED_WINDOW = 512


@gives_back
def allocate(
    model: str | Path | nn.Module | LoadedModel | None = None,
    method: str = "first_order",
    budget: str | Budget | Sequence[str | Budget] = "bits=5.0",
    *,
    formats: Sequence[str] = ("mxfp4_e2m1", "mxfp8_e4m3"),
    tie: bool = False,
    apart: bool = False,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    policy: str = "ocp",
    text: str | Path | TokenText | None = None,
    part: str = "all",
    context: int | None = None,
    tokens: int = TOKENS,
    seed: int = 0,
    scenario: Scenario | None = None,
    bits_scales: str = "out",
    bits_weighting: str = "plain",
    cache: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> Assignment:
    """Choose each layer's formats by a published method.

    Args:
        model: see dmx.load_model.  method: one of METHODS.
        budget: such as "bits=5.0" or "energy=0.6x", or a Budget; or several, which are all met.
        formats: the block formats to choose from.  tie: q, k and v take the same, so do gate and up.
        apart: weights and inputs choose each for itself; the published methods choose one format for both.
        only, skip: patterns over the names of linears.  policy: how values are converted, a name of mxsim.POLICIES.
        text: what scores are measured on: a UTF-8 file, or tokens; None is the embedded model's search text.  part: "all", or the "first"
            or "second" half of it.  tokens: so many of it are drawn by the seed.  context: tokens of a window, the model's longest up to
            512 when None.
        scenario: the device and phases of budgets given as text, and of what is reported where no budget has a device.
        bits_scales, bits_weighting: how budgets given as text count bits.
        cache: a folder in which scores are kept, to serve other budgets; None keeps nothing.
        settings: of the method: SETTINGS lists them.
    Returns: an assignment that meets every budget; "search" says how it was found and what of each budget is left.
    Raises: DmxError for a budget that cannot be met, with what can be reached, and for input that does not fit together.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    for name in settings:
        if name not in SETTINGS.get(method, {}):
            raise unknown_name(f"setting of {method}", name, SETTINGS.get(method, {}) or ("none",))
    POLICIES[policy]
    started = time.perf_counter()
    loaded = load_model(model)
    place = scenario or Scenario()
    asked = [budget] if isinstance(budget, str | Budget) else list(budget)
    budgets = [
        one if isinstance(one, Budget) else Budget.parse(one, place, bits_scales=bits_scales, bits_weighting=bits_weighting)
        for one in asked
    ]
    space = decision_space(loaded, formats, tie=tie, apart=apart, only=only, skip=skip)
    limits = constraints(budgets, space, loaded.shape)
    check_together(limits)
    told = told_scenario(budgets, scenario)
    check_scenario(told, space, loaded.shape)
    drawn: list[TokenText] = []

    def search_text() -> TokenText:
        if not drawn:
            whole = fitting(loaded, text, part=part, context=context) if isinstance(text, TokenText) else _read(loaded, text, part, context)
            drawn.append(sample_windows(whole, tokens, seed))
        return drawn[0]

    problem = Problem(
        model=loaded,
        space=space,
        constraints=limits,
        policy=policy,
        read_text=search_text,
        cache=ScoreCache(None if cache is None else Path(cache)),
        progress=progress,
        settings=settings,
    )
    found = METHODS[method](problem)
    if not problem.is_met(found.choice):
        raise DmxError(f"method {method} returned a choice beyond its budget: this is a defect, please report it")
    layers = space.layer_pairs(found.choice)
    names = [name for name in loaded.linears if name in layers]  # in the model's order, tied or not
    assignment = Assignment(layers={name: layers[name] for name in names}, skipped=space.skipped, policy=policy)
    spent = achieved(assignment, loaded.shape, told)
    return Assignment(
        layers=assignment.layers,
        skipped=assignment.skipped,
        policy=policy,
        budget=described([one.budget for one in limits]),
        achieved=spent,
        search={
            "method": method,
            "formats": list(space.formats),
            "tie": tie,
            "apart": space.apart,
            "seed": seed,
            "settings": dict(found.settings),
            "model": {"name": loaded.name, "sha256": loaded.sha256},
            "text": {"name": drawn[0].name, "sha256": drawn[0].sha256, "tokens": drawn[0].scored_tokens} if drawn else None,
            "predicted_loss": found.predicted_loss,
            **leftovers(np.asarray(found.choice), limits, found.why_no_dearer),
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


def _read(model: LoadedModel, text: str | Path | None, part: str, context: int | None) -> TokenText:
    window = min(model.context, LONGEST_SCORED_WINDOW) if context is None else context
    if text is not None:
        return tokenize(model, read_text(text), name=Path(text).name, context=window, part=part)
    if model.source != "embedded":
        raise DmxError(f"no text to measure {model.name!r} on: pass one (--text); only the embedded model brings its own")
    from dmx import reference

    return tokenize(model, reference.text("search"), name="embedded world, search", context=window, part=part)
