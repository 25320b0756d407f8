"""The text that a search or a score looks at: windows, the float model's predictions on them, and the loss against those."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.nn import functional

from dmx.errors import DmxError
from dmx.evaluation import batches, logits_of
from dmx.models import LoadedModel
from dmx.text import TokenText

LOSSES = ("shrunk", "kl", "ce")
#: The float model's log-probabilities are kept where they take no more than this; where they take more, only "ce" can be had.
KEPT_BYTES = 1 << 30


class Calibration:
    """Windows with the float model's log-probabilities, and the mean loss per token of other logits on them.

    loss "kl": KL(float || model), which measures the assignment alone; "ce": next-token cross-entropy, the paper's; "shrunk": KL, and of
    what cross-entropy says beyond it a share, to be set: see dmx.shrinkage.
    """

    def __init__(self, model: LoadedModel, text: TokenText, loss: str = "kl") -> None:
        if loss not in LOSSES:
            raise DmxError(f"loss {loss!r} is none of {', '.join(LOSSES)}")
        self.model, self.text = model, text
        self.windows = text.windows
        #: of cross-entropy in the loss, the rest being KL
        self.share = 0.0 if loss == "kl" else 1.0
        self._kept: torch.Tensor | None = None
        if loss != "ce":
            vocabulary = int(model.module.config.vocab_size)  # type: ignore[union-attr, arg-type]
            if 4 * text.scored_tokens * vocabulary <= KEPT_BYTES:
                self._kept = torch.cat([self._float(batch) for batch in batches(self.windows)])

    @property
    def knows_float(self) -> bool:
        """Whether there is KL to be had: the float model's predictions are kept."""
        return self._kept is not None

    @contextmanager
    def sharing(self, share: float) -> Iterator[None]:
        """With another share for a while."""
        before, self.share = self.share, share
        try:
            yield
        finally:
            self.share = before

    def _float(self, windows: torch.Tensor) -> torch.Tensor:
        """(windows, context - 1, vocabulary) log-probabilities of the model as it is now."""
        with torch.no_grad():
            logits = logits_of(self.model.module, windows.to(self.model.device))[:, :-1]
            return functional.log_softmax(logits.float(), -1)

    def sample(self, count: int, seed: int, step: int) -> torch.Tensor:
        """(count,) indices of windows for a step: a function of seed and step alone, so that a search can resume anywhere."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return torch.randperm(len(self.windows), generator=generator)[: min(count, len(self.windows))]

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        """The mean loss per token of the module as it is now, on the windows of these indices; with its graph."""
        return self.losses(index).mean()

    def losses(self, index: torch.Tensor) -> torch.Tensor:
        """(len(index),) the same, window by window."""
        ids = self.windows[index].to(self.model.device)
        logits = logits_of(self.model.module, ids)[:, :-1].float()
        if self.share == 1:
            return -functional.log_softmax(logits, -1).gather(-1, ids[:, 1:, None]).mean((1, 2))
        if self._kept is None:
            raise DmxError(
                f"the float model's predictions on {self.text.scored_tokens} tokens would take over {KEPT_BYTES >> 20} MiB: "
                "search on less text (--tokens), or with loss ce"
            )
        apply: Any = _SharedLoss.apply
        return cast("torch.Tensor", apply(logits, [self._kept[i] for i in index.tolist()], ids[:, 1:, None], self.share))


class _SharedLoss(torch.autograd.Function):
    """(windows,) mean over tokens of KL(float || model) + share (cross-entropy - KL), with its gradient in closed form.

    The gradient at the logits is the model's probabilities less what they are drawn to: the float model's, and the tokens, by their shares.
    Nothing of the vocabulary's size is kept but the log-probabilities that cross-entropy keeps, too.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, expected: list[torch.Tensor], tokens: torch.Tensor, share: float) -> torch.Tensor:
        logs = functional.log_softmax(logits, -1)
        ctx.save_for_backward(logs, tokens)
        ctx.expected, ctx.share = expected, share
        each = zip(logs, expected, strict=True)
        kl = torch.stack([functional.kl_div(ours, float_, log_target=True, reduction="none").sum(-1).mean(-1) for ours, float_ in each])
        return kl if share == 0 else (1 - share) * kl - share * logs.gather(-1, tokens).mean((1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logs, tokens = ctx.saved_tensors
        gradient = logs.exp()
        for ours, float_ in zip(gradient, ctx.expected, strict=True):
            ours.sub_(float_.exp(), alpha=1 - ctx.share)
        gradient.scatter_add_(-1, tokens, torch.full_like(tokens, -ctx.share, dtype=gradient.dtype))
        return gradient.mul_(grads[0][:, None, None] / logs.shape[1]), None, None, None
