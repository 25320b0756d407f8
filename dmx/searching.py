"""dMX: the search for the format of every layer under a budget. Start, anneal, repair, refine; every stage saved, so that it resumes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dmx.budget import Budget, Constraint, Scenario, achieved, budget_names, check_scenario, constraints, described, told_scenario
from dmx.calibration import Calibration
from dmx.curvature import curvature_scores
from dmx.decisions import DecisionSpace, decision_space
from dmx.errors import DmxError
from dmx.knapsack import best_choice, check_together
from dmx.leftovers import leftovers
from dmx.live_modules import gives_back
from dmx.models import LoadedModel, load_model
from dmx.observed import QuantisedWeights
from dmx.records import code_sha256
from dmx.refinement import Measure, refine
from dmx.relax import RelaxedModel
from dmx.repair import TOP, best_of
from dmx.scores import inward, layer_degrees, pair_scores, path_secants
from dmx.search_config import SearchConfig, preset, preset_of
from dmx.search_state import SearchState
from dmx.secants import Secants
from dmx.shrinkage import BEYOND_KL, KL, next_token_share
from dmx.text import TokenText, fitting, read_text, tokenize
from dmx.training import Training
from mxsim.assignment import Assignment

#: Tokens of a window, where nothing else is asked for and the model allows more.
SEARCH_CONTEXT = 512


@gives_back
def search(
    model: str | Path | nn.Module | LoadedModel | None = None,
    budget: str | Budget | Sequence[str | Budget] = "bits=5.0",
    *,
    config: SearchConfig | str = "default",
    text: str | Path | TokenText | None = None,
    part: str = "all",
    scenario: Scenario | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> Assignment:
    """Find the formats of a model's linears that lose the least within a budget.

    Args:
        model: see dmx.load_model.
        budget: "bits=5.0", "bytes=3e6", "energy=0.6x" (of all-BF16), "latency=2e-4" (seconds), a Budget, or several of them.
        config: a SearchConfig or the name of a preset, "default", "kl" or "paper"; settings change single ones: steps=100, seed=1.
        text: what the search looks at: a UTF-8 file or tokens; None is the embedded model's search text.  part: "all", or the "first" or
            "second" half.
        scenario: device and phases for budgets given as text, and for what is reported as achieved where no budget has a device.
        only, skip: patterns over the names of linears, as in a shell.
        folder: where assignment.json, trajectory.json and the state to resume from go; an interrupted search goes on from there.
    Returns: an Assignment that meets every budget; its `search` says how it was found, and what was left.
    Raises: DmxError for a budget out of reach (with what can be reached) and for a loss or a gradient that is not finite, with the place.
    """
    started = time.perf_counter()
    chosen = (preset(config) if isinstance(config, str) else config).with_settings(settings)
    loaded = load_model(model)
    where = scenario or Scenario()
    given = [budget] if isinstance(budget, str | Budget) else list(budget)
    budgets = tuple(Budget.parse(one, where) if isinstance(one, str) else one for one in given)
    space = decision_space(loaded, chosen.formats, tie=chosen.tie, apart=chosen.apart, only=only, skip=skip)
    limits = constraints(budgets, space, loaded.shape)
    check_together(limits)
    place = told_scenario(budgets, scenario)
    check_scenario(place, space, loaded.shape)
    tokens = search_text(loaded, text, chosen, part=part)
    asked = {
        "code": code_sha256(),
        "model": [loaded.sha256, loaded.config_sha256, loaded.dtypes, loaded.stored_sha256],
        "text": [tokens.windows_sha256, tokens.name],
        "config": chosen.to_json(),
        "budgets": [one.to_json() for one in budgets],
        "devices": [one.scenario.device_sha256 for one in budgets],
        "layers": list(space.layers),
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    state = SearchState.open(None if folder is None else Path(folder), key)
    found = _Search(loaded, space, limits, tokens, chosen, state, progress).run()
    assignment = Assignment(
        layers=space.layer_pairs(found.choice),
        skipped=space.skipped,
        policy=chosen.policy,
        budget=described([one.budget for one in limits]),
    )
    spent = achieved(assignment, loaded.shape, place)
    result = Assignment(
        layers=assignment.layers,
        skipped=assignment.skipped,
        policy=assignment.policy,
        budget=assignment.budget,
        achieved=spent,
        search={
            "method": "dmx",
            "preset": preset_of(chosen),
            "config": chosen.to_json(),
            "model": {"name": loaded.name, "sha256": loaded.sha256},
            "text": {"name": tokens.name, "sha256": tokens.sha256, "tokens": tokens.scored_tokens},
            **found.told,
            "seconds": state.seconds_before + time.perf_counter() - started,
        },
    )
    if folder is not None:
        result.save(Path(folder) / "assignment.json")
        state.write_trajectory([decision.layers for decision in space.decisions])
        state.finish()
    return result


def search_text(model: LoadedModel, text: str | Path | TokenText | None, config: SearchConfig, *, part: str = "all") -> TokenText:
    """The windows a search looks at: evenly spread over the text, as many as make config.tokens."""
    if isinstance(text, TokenText):
        whole = fitting(model, text, part=part, context=config.context)
    else:
        context = min(model.context, SEARCH_CONTEXT) if config.context is None else config.context
        if text is None:
            if model.source != "embedded":
                raise DmxError(
                    f"a search on {model.name!r} needs text to look at: pass --text FILE, a UTF-8 text like what the model is for"
                )
            from dmx import reference

            whole = tokenize(model, reference.text("search"), name="embedded world, search", context=context, part=part)
        else:
            whole = tokenize(model, read_text(text), name=Path(text).name, context=context, part=part)
    count = max(1, min(len(whole.windows), config.tokens // whole.windows.shape[1]))
    spread = torch.linspace(0, len(whole.windows) - 1, count).long()
    return TokenText(name=whole.name, sha256=whole.sha256, windows=whole.windows[spread])


class _Found:
    """A choice, and what is to be told of how it was found."""

    def __init__(self, choice: npt.NDArray[np.int64], told: dict[str, Any]) -> None:
        self.choice, self.told = choice, told


class _Search:
    """One search, its parts in hand."""

    def __init__(
        self,
        loaded: LoadedModel,
        space: DecisionSpace,
        limits: tuple[Constraint, ...],
        tokens: TokenText,
        config: SearchConfig,
        state: SearchState,
        progress: bool,
    ) -> None:
        self.space, self.limits, self.config, self.state, self.progress = space, limits, config, state, progress
        self.loaded, self.tokens = loaded, tokens
        loaded.need_gradients()
        linears = loaded.linears
        self.model = RelaxedModel(
            {name: linears[name] for name in space.layers},
            space.formats,
            policy=config.policy,
            stored_dtypes=loaded.stored_dtypes,
            relaxation=config.relaxation,
        )
        self.calibration = Calibration(loaded, tokens, config.loss)

    def run(self) -> _Found:
        config, state = self.config, self.state
        if len(self.space.pairs) == 1:
            only = np.zeros(len(self.space.decisions), np.int64)
            return _Found(only, {"note": "one format: nothing to search", **leftovers(only, self.limits, self._why_no_dearer())})
        with self.model:
            path = self._path()
            training = Training(self.space, self.limits, self.model, self.calibration, config, path)
            state.restore(training)
            training.run(state.save_training, self.progress)
            measure = Measure(self.space, self.model, self.calibration, state.measured)
            hardened = training.choice()
            told: dict[str, Any] = {
                "next_token_share": self.calibration.share,
                "loss_before_hardening": float(np.mean(measure.losses(training.soft_degrees()))),
                "loss_after_hardening": measure(hardened),
                "spent_before_repair": self._shares(hardened),
            }
            choice, how = self._repaired(training, hardened, path, measure)
            told |= {"repair": how, "loss_after_repair": measure(choice)}
            if config.refine and how != TOP:
                choice, exchanges = refine(
                    choice,
                    self.space,
                    self.limits,
                    self.model,
                    self.calibration,
                    measure,
                    training.state.secants,
                    measurements=config.refine,
                    batch_windows=config.batch_windows,
                    seed=config.seed,
                    save=state.save_measured,
                    progress=self.progress,
                )
                told |= {"exchanges": exchanges, "loss_after_refinement": measure(choice)}
        return _Found(choice, told | leftovers(choice, self.limits, self._why_no_dearer()))

    def _path(self) -> Secants | None:
        """The gradients from foot to top, of which the start, the first prices and a repair are made; settles the loss on the way."""
        config, state = self.config, self.state
        shrinks = config.loss == "shrunk"
        if config.start != "scores" and config.steering != "lagrangian" and not config.repair and not shrinks:
            return None
        if state.path is None:
            made_of = (KL, BEYOND_KL) if shrinks else (self.calibration.parts,)
            path, *beyond = path_secants(self.model, self.calibration, made_of, config.batch_windows, config.seed, self.progress)
            state.path, state.share = path, self.calibration.share
            if shrinks:
                by_next_token = path.plus(beyond[0], 1.0)
                first = best_choice(pair_scores(self.space, by_next_token()), self.limits)
                around = inward(layer_degrees(self.space, first))
                state.share = next_token_share(
                    self.space, self.model, self.calibration, around, config.batch_windows, config.seed, self.progress
                )
                state.path = path.plus(beyond[0], state.share)
        self.calibration.share = state.share
        return state.path

    def _shares(self, choice: npt.NDArray[np.int64]) -> dict[str, float]:
        names = budget_names([one.budget for one in self.limits])
        return {name: one.spent(choice) / one.limit for name, one in zip(names, self.limits, strict=True)}

    def _repaired(
        self, training: Training, hardened: npt.NDArray[np.int64], path: Secants | None, measure: Measure
    ) -> tuple[npt.NDArray[np.int64], str]:
        """A choice within the budgets; with repair on, the best of the exact ones by offsets, gradients and curvature; and how it came."""
        met = all(one.is_met(hardened) for one in self.limits)
        by_offsets = best_choice(pair_scores(self.space, training.margins()), self.limits)
        if not self.config.repair:
            return (hardened, "none needed") if met else (by_offsets, "budget exceeded: the highest offsets that fit")
        late = training.state.secants()
        early = late if path is None else path()
        top = np.full_like(hardened, len(self.space.pairs) - 1)
        candidates = {TOP: top} if all(one.is_met(top) for one in self.limits) else {}
        candidates |= {
            "knapsack over early and late gradients": best_choice(pair_scores(self.space, (early + late) / 2), self.limits),
            "knapsack over early gradients": best_choice(pair_scores(self.space, early), self.limits),
            "knapsack over offsets": by_offsets,
            "knapsack over late gradients": best_choice(pair_scores(self.space, late), self.limits),
        }
        if self.config.curvature:
            weights = QuantisedWeights(self.loaded, self.space, self.config.policy, self.model.weights)
            curvature = curvature_scores(
                self.loaded, self.space, weights, self.tokens, batch_windows=self.config.batch_windows, progress=self.progress
            )
            if np.isfinite(curvature).all():
                candidates["knapsack over curvature"] = best_choice(curvature, self.limits)
        if met:
            candidates["hardened as it was"] = hardened
        best = best_of(candidates, measure)
        self.state.save_measured()
        return candidates[best], best

    def _why_no_dearer(self) -> str:
        """Why no dearer pair is taken though one would fit."""
        if self.config.refine:
            return "dearer pairs would fit, but none was found to measure better"
        if self.config.repair:
            return "dearer pairs would fit, but the choice that measured best is without them, and refinement is off"
        return "dearer pairs would fit, but no offset asks for one, and nothing is spent after hardening: repair and refinement are off"
