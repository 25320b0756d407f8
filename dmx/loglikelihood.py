"""Log-likelihoods of continuations, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from dmx.errors import DmxError
from dmx.live_modules import AsFound
from dmx.models import longest_window

#: the most logits of one batch, in elements: 1 GiB of float32
_MOST_LOGITS = 1 << 28


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation is: the sum over its tokens, in nats; and whether each is the likeliest at its place."""

    total: float
    greedy: bool


@dataclass(frozen=True, slots=True)
class _Request:
    index: int
    tokens: list[int]
    scored: int  #: the last so many tokens


@contextmanager
def not_training(module: nn.Module) -> Iterator[None]:
    """Dropout off for the time of the block."""
    with AsFound(module):
        module.train(False)
        yield


def loglikelihoods(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_tokens: int = 8192,
    progress: bool = False,
    label: str = "",
) -> list[Likelihood]:
    """The likelihood of each continuation after its context.

    Context and continuation are tokenised together and split at the context's own number of tokens. A tokenizer that starts its texts with
    a token of its own does so here; an empty context is always that token or the end-of-text token, and where there is neither the first
    token is not scored. What does not fit the model's window loses its beginning.

    Args: pairs: (context, continuation). batch_tokens: tokens of a batch, padding included.
    Raises: DmxError for a continuation longer than the window.
    """
    requests = _requests(tokenizer, pairs, longest_window(module))
    requests.sort(key=lambda request: (-len(request.tokens), request.tokens))
    found: list[Likelihood | None] = [None] * len(pairs)
    device = next(module.parameters()).device
    bar = tqdm(total=len(pairs), unit="text", desc=label, disable=not progress, leave=False)
    with not_training(module), torch.inference_mode(), bar:
        start = 0
        while start < len(requests):
            longest = len(requests[start].tokens)
            batch = requests[start : start + max(1, batch_tokens // longest)]
            for request, likelihood in zip(batch, _score(module, batch, device), strict=True):
                found[request.index] = likelihood
            start += len(batch)
            bar.update(len(batch))
    return [likelihood for likelihood in found if likelihood is not None]


def _requests(tokenizer: Any, pairs: Sequence[tuple[str, str]], limit: int) -> list[_Request]:
    contexts = _encoded(tokenizer, [context for context, _ in pairs])
    wholes = _encoded(tokenizer, [context + continuation for context, continuation in pairs])
    own = _encoded(tokenizer, ["a"], special=True)[0][0]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    prefix = [start] if start is not None and start == own else []
    requests = []
    for index, (context, whole) in enumerate(zip(contexts, wholes, strict=True)):
        scored = len(whole) - len(context)
        head = prefix or ([start] if not context and start is not None else [])
        if not context and not head:
            scored -= 1
        if scored < 1:
            raise DmxError(f"the continuation {pairs[index][1]!r} of {pairs[index][0][-40:]!r} has no token of its own to score")
        if scored > limit - 1:
            raise DmxError(
                f"the continuation {pairs[index][1][:40]!r}... has {scored} tokens, more than the model's window of {limit} can score"
            )
        requests.append(_Request(index, (head + whole)[-limit:], scored))
    return requests


def _encoded(tokenizer: Any, texts: list[str], *, special: bool = False) -> list[list[int]]:
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
    return encoded


def _score(module: nn.Module, batch: Sequence[_Request], device: torch.device) -> list[Likelihood]:
    """One forward pass, padded on the right: a causal model never looks there."""
    longest = max(len(request.tokens) for request in batch)
    tokens = torch.zeros((len(batch), longest), dtype=torch.int64)
    for row, request in enumerate(batch):
        tokens[row, : len(request.tokens)] = torch.tensor(request.tokens)
    tokens = tokens.to(device)
    vocabulary = int(getattr(getattr(module, "config", None), "vocab_size", 1) or 1)
    rows = max(1, _MOST_LOGITS // (vocabulary * longest))
    if len(batch) > rows:
        return [one for start in range(0, len(batch), rows) for one in _score(module, batch[start : start + rows], device)]
    logits = module(input_ids=tokens, use_cache=False).logits
    results = []
    for row, request in enumerate(batch):
        end = len(request.tokens)
        logs = torch.log_softmax(logits[row, end - 1 - request.scored : end - 1].float(), dim=-1)
        wanted = tokens[row, end - request.scored : end]
        total = float(logs.gather(1, wanted[:, None]).sum(dtype=torch.float64))
        results.append(Likelihood(total, bool((logs.argmax(-1) == wanted).all())))
    return results
