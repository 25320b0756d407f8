"""The text that a search or a score looks at: windows, the float model's predictions on them, and the loss against those."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dmx.errors import DmxError
from dmx.evaluation import batches, logits_of
from dmx.finiteness import where_not_finite
from dmx.models import LoadedModel
from dmx.predictions import Predictions, Window, divergence, target
from dmx.text import TokenText

LOSSES = ("shrunk", "kl", "ce")


class Column(IntEnum):
    """Of what is measured of a window."""

    LOSS = 0
    KL = 1


class Parts(NamedTuple):
    """What a loss is made of."""

    kl: float
    next_token: float  #: cross-entropy


class Calibration:
    """Windows with the float model's predictions, and the mean loss per token of other logits on them.

    loss "kl": KL(float || model), which measures the assignment alone; "ce": next-token cross-entropy, the paper's; "shrunk": KL, and of
    what cross-entropy says beyond it a share, to be set: see dmx.shrinkage.
    """

    def __init__(self, model: LoadedModel, text: TokenText, loss: str = "kl") -> None:
        if loss not in LOSSES:
            raise DmxError(f"loss {loss!r} is none of {', '.join(LOSSES)}")
        self.model, self.text = model, text
        self.windows = text.windows
        self.parts = Parts(0.0, 1.0)
        self.share = 0.0 if loss == "kl" else 1.0
        self._kept = None if loss == "ce" else Predictions.kept(self._float_logs(), len(self.windows))

    @property
    def share(self) -> float:
        """Of cross-entropy in the loss, the rest being KL."""
        return self.parts.next_token

    @share.setter
    def share(self, share: float) -> None:
        self.parts = Parts(1.0 - share, share)

    def _float_logs(self) -> Iterator[torch.Tensor]:
        """(windows of a batch, context - 1, vocabulary) log-probabilities of the model as it is now."""
        for batch in batches(self.windows):
            with torch.no_grad():
                logits = logits_of(self.model.module, batch.to(self.model.device))[:, :-1]
                yield functional.log_softmax(logits.float(), -1)

    def sample(self, count: int, seed: int, step: int) -> torch.Tensor:
        """(count,) indices of windows for a step: a function of seed and step alone, so that a search can resume anywhere."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return torch.randperm(len(self.windows), generator=generator)[: min(count, len(self.windows))]

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        """The mean loss per token of the module as it is now, on the windows of these indices; with its graph."""
        return self.losses(index).mean()

    def losses(self, index: torch.Tensor) -> torch.Tensor:
        """(len(index),) the same, window by window."""
        return self.losses_of(index, [self.parts])[0]

    def losses_of(self, index: torch.Tensor, made_of: Sequence[Parts]) -> list[torch.Tensor]:
        """(len(index),) for each of several losses, all from one forward pass; with their graph."""
        logits, tokens = self._predicted(index)
        if list(made_of) == [(0.0, 1.0)]:
            return [_next_token(functional.log_softmax(logits, -1), tokens)]
        apply: Any = _SharedLosses.apply
        return list(apply(logits, self._expected(index), tokens, tuple(made_of)))

    def measured(self, index: torch.Tensor) -> torch.Tensor:
        """(len(index), columns) window by window the loss, and KL alone; without their graph. Loss "ce" has no KL: it is the loss again."""
        with torch.no_grad():
            logits, tokens = self._predicted(index)
            logs = functional.log_softmax(logits, -1)
            if not self.has_kl:
                return _next_token(logs, tokens)[:, None].expand(-1, len(Column))
            kl = _divergences(logs, self._expected(index))
            return torch.stack([_weighed(kl, logs, tokens, self.parts), kl], -1)

    @property
    def has_kl(self) -> bool:
        """Whether the float model's predictions are kept."""
        return self._kept is not None

    def _predicted(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(windows, context - 1, vocabulary) float32 logits of the module as it is now, and (windows, context - 1, 1) what came next."""
        ids = self.windows[index].to(self.model.device)
        return logits_of(self.model.module, ids)[:, :-1].float(), ids[:, 1:, None]

    def _expected(self, index: torch.Tensor) -> list[Window]:
        if self._kept is None:
            raise DmxError("a calibration for loss ce keeps no predictions of the float model to measure KL from")
        return [self._kept[i] for i in index.tolist()]

    def need_finite(self, loss: float, index: torch.Tensor) -> None:
        """Raises: DmxError for a loss of the module as it is now, on the windows of these indices, that is not finite: it says where."""
        if not math.isfinite(loss):
            where = where_not_finite(self.model.module, lambda: self.loss(index))
            raise DmxError(f"the loss is {loss} on windows {index.tolist()}: {where}")


def _next_token(logs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(windows,) mean cross-entropy. Args: logs: (windows, places, vocabulary) log-probabilities.  tokens: (windows, places, 1)."""
    return -logs.gather(-1, tokens).mean((1, 2))


def _divergences(logs: torch.Tensor, expected: list[Window]) -> torch.Tensor:
    """(windows,) mean KL(float || model). Args: logs: (windows, places, vocabulary) log-probabilities."""
    return torch.stack([divergence(ours, float_).mean(-1) for ours, float_ in zip(logs, expected, strict=True)])


def _weighed(kl: torch.Tensor, logs: torch.Tensor, tokens: torch.Tensor, parts: Parts) -> torch.Tensor:
    """(windows,) so much of KL and so much of cross-entropy; what is not asked for, as it need not be finite, is left out."""
    return parts.kl * kl + parts.next_token * _next_token(logs, tokens) if parts.next_token else parts.kl * kl


class _SharedLosses(torch.autograd.Function):
    """(windows,) mean over tokens of parts.kl KL(float || model) + parts.next_token cross-entropy, of each of several parts.

    With its gradient in closed form: at the logits it is the model's probabilities less KL's target, or less the tokens, by their parts.
    Nothing of the vocabulary's size is kept but the log-probabilities that cross-entropy keeps, too.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, expected: list[Window], tokens: torch.Tensor, made_of: tuple[Parts, ...]
    ) -> tuple[torch.Tensor, ...]:
        logs = functional.log_softmax(logits, -1)
        ctx.save_for_backward(logs, tokens)
        ctx.expected, ctx.made_of = expected, made_of
        ctx.set_materialize_grads(False)
        kl = _divergences(logs, expected)
        return tuple(_weighed(kl, logs, tokens, parts) for parts in made_of)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        logs, tokens = ctx.saved_tensors
        total: torch.Tensor | None = None
        for grad, parts in zip(grads, ctx.made_of, strict=True):
            if grad is not None:
                own = _gradient(logs, ctx.expected, tokens, parts).mul_(grad[:, None, None] / logs.shape[1])
                total = own if total is None else total.add_(own)
        return total, None, None, None


def _gradient(logs: torch.Tensor, expected: list[Window], tokens: torch.Tensor, parts: Parts) -> torch.Tensor:
    """(windows, places, vocabulary) at the logits, of each place's loss."""
    gradient = logs.exp().mul_(parts.kl + parts.next_token)
    for window, own, float_ in zip(gradient, logs, expected, strict=True):
        window.sub_(target(own, float_), alpha=parts.kl)
    return gradient.scatter_add_(-1, tokens, torch.full_like(tokens, -parts.next_token, dtype=gradient.dtype))
