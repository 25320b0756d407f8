"""The float model's predictions on the windows of a text, kept, and the divergence of other predictions from them.

All log-probabilities are kept where they fit. Of a large vocabulary only the likeliest tokens are, and what the others have together: KL
is then that of predictions with those others as one outcome, never more than KL itself (merging outcomes brings distributions nearer).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch.nn import functional

#: The whole vocabulary is kept where it takes no more than this.
WHOLE_BYTES = 1 << 30
#: Tokens kept at each place otherwise.
LIKELIEST = 256


def keeps_whole(places: int, vocabulary: int) -> bool:
    """Whether log-probabilities of the whole vocabulary are kept at so many places."""
    return 4 * places * vocabulary <= WHOLE_BYTES


def kept_bytes(places: int, vocabulary: int) -> int:
    """What predictions at so many places take."""
    count = min(LIKELIEST, vocabulary)
    return places * (4 * vocabulary if keeps_whole(places, vocabulary) else 4 * (count + 1) + 8 * count)


class Window(NamedTuple):
    """One window's predictions."""

    logs: torch.Tensor  #: (places, vocabulary) log-probabilities; or (places, kept + 1), the last that of all others together
    tokens: torch.Tensor | None  #: (places, kept) int64: which tokens those are; None where it is all, in order


class Predictions:
    """Of every window of a text."""

    def __init__(self, logs: torch.Tensor, tokens: torch.Tensor | None) -> None:
        self._logs, self._tokens = logs, tokens

    @classmethod
    def kept(cls, batches: Iterable[torch.Tensor], windows: int) -> Predictions:
        """Args: batches: (some windows, places, vocabulary) float32 log-probabilities, in turn.  windows: in all."""
        logs = torch.empty(0)
        tokens: torch.Tensor | None = None
        done = 0
        for batch in batches:
            whole = keeps_whole(windows * batch.shape[1], batch.shape[2])
            told, names = (batch, None) if whole else likeliest(batch, LIKELIEST)
            if not done:
                logs = told.new_empty((windows, *told.shape[1:]))
                tokens = None if names is None else names.new_empty((windows, *names.shape[1:]))
            logs[done : done + len(batch)] = told
            if tokens is not None and names is not None:
                tokens[done : done + len(batch)] = names
            done += len(batch)
        return cls(logs, tokens)

    def __getitem__(self, window: int) -> Window:
        return Window(self._logs[window], None if self._tokens is None else self._tokens[window])


def likeliest(logs: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., count + 1) log-probabilities of the likeliest tokens and of all others together, and (..., count) which tokens those are."""
    top, tokens = logs.topk(min(count, logs.shape[-1]), -1)
    return torch.cat([top, _rest(logs, tokens).log()], -1), tokens


def divergence(logs: torch.Tensor, expected: Window) -> torch.Tensor:
    """(places,) KL(expected || predictions). Args: logs: (places, vocabulary) log-probabilities."""
    if expected.tokens is not None:
        logs = torch.cat([logs.gather(-1, expected.tokens), _rest(logs, expected.tokens).log()], -1)
    return functional.kl_div(logs, expected.logs, log_target=True, reduction="none").sum(-1)


def target(logs: torch.Tensor, expected: Window) -> torch.Tensor:
    """(places, vocabulary) probabilities that the divergence draws predictions to: its gradient at the logits is theirs less these.

    Tokens that are not named share what the others have together as the predictions themselves do.
    """
    if expected.tokens is None:
        return expected.logs.exp()
    drawn = logs.exp().scatter_(-1, expected.tokens, 0.0)
    likely = expected.logs.exp()
    drawn *= likely[:, -1:] / drawn.sum(-1, keepdim=True).clamp_min(torch.finfo(logs.dtype).tiny)
    return drawn.scatter_(-1, expected.tokens, likely[:, :-1])


def _rest(logs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(..., 1) the probability of all other tokens, summed as such: one less the likeliest would cancel."""
    others = logs.exp().scatter_(-1, tokens, 0.0)
    return others.sum(-1, keepdim=True).clamp_min(torch.finfo(logs.dtype).tiny)
