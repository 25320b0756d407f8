"""KL scores: each decision alone is put in each pair of formats, and the logits' divergence from the float model's is measured."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from dmx.allocators.measured import cached_scores
from dmx.allocators.problem import Problem, Scores
from dmx.calibration import Calibration
from dmx.evaluation import BATCH_TOKENS
from dmx.quantised_linear import apply
from dmx.text import TokenText
from mxsim.assignment import Assignment


def kl_scores(problem: Problem) -> Scores:
    """(decisions, pairs): mean over tokens of KL(float || one decision quantised), in nats."""
    return cached_scores(problem, "kl", {}, lambda text: _measure(problem, text))


def _measure(problem: Problem, text: TokenText) -> Scores:
    space, calibration = problem.space, Calibration(problem.model, text, "kl")
    scores = np.zeros((len(space.decisions), len(space.pairs)))
    places = [(d, p) for d in range(len(space.decisions)) for p in range(len(space.pairs))]
    batches = torch.split(torch.arange(len(text.windows)), max(1, BATCH_TOKENS // text.windows.shape[1]))
    for d, p in tqdm(places, desc="KL of each layer alone", unit="measurement", disable=not problem.progress, leave=False):
        alone = Assignment(layers=dict.fromkeys(space.decisions[d].layers, space.pairs[p]), policy=problem.policy)
        with apply(problem.model, alone), torch.no_grad():
            total = 0.0
            for index in batches:
                loss = float(calibration.loss(index))
                calibration.need_finite(loss, index)
                total += loss * len(index)
        scores[d, p] = total / len(text.windows)
    return scores
