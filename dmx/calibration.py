"""The text that a search or a score looks at: windows, the float model's predictions on them, and the loss against those."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        logs = functional.log_softmax(logits_of(self.model.module, ids)[:, :-1].float(), -1)
        if self.share == 1:
            return -logs.gather(-1, ids[:, 1:, None]).mean((1, 2))
        if self._kept is None:
            raise DmxError(
                f"the float model's predictions on {self.text.scored_tokens} tokens would take over {KEPT_BYTES >> 20} MiB: "
                "search on less text (--tokens), or with loss ce"
            )
        kl = functional.kl_div(logs, self._kept[index], log_target=True, reduction="none").sum(-1).mean(-1)
        return kl if self.share == 0 else (1 - self.share) * kl - self.share * logs.gather(-1, ids[:, 1:, None]).mean((1, 2))
