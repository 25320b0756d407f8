"""Quality: perplexity, divergence from the float model, and zero-shot accuracy, by fake quantisation or through a unit's own bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from dmx.errors import DmxError
from dmx.finiteness import where_not_finite
from dmx.live_modules import gives_back
from dmx.models import LoadedModel, load_model
from dmx.quantised_linear import apply, read_assignment
from dmx.text import TokenText, fitting, read_text, tokenize
from mxsim.assignment import Assignment

#: Of a window's tokens.
PROTOCOL = "non-overlapping windows of {} tokens, no special tokens, the first token of each window not scored"
#: Tokens in one forward pass; bounds the memory of the logits.
BATCH_TOKENS = 4096


class FloatLogs:
    """The float model's log-probabilities of a text, kept from one evaluation to the next: they take as long as an assignment's."""

    #: What may be kept in all; what is beyond it is computed anew.
    KEPT_BYTES = 1 << 30

    def __init__(self) -> None:
        self._of: tuple[object, ...] | None = None
        self._kept: dict[int, torch.Tensor] = {}

    def need(self, model: LoadedModel, text: TokenText) -> None:
        """Raises: DmxError where another model's, or those of another text, are kept here."""
        asked = (model.sha256, model.config_sha256, *model.dtypes, model.device.type, text.windows_sha256)
        if self._of not in (None, asked):
            raise DmxError(f"these float log-probabilities are not those of {model.name!r} on {text.name!r}: make new ones, FloatLogs()")
        self._of = asked

    def get(self, batch: int, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Those of a batch, by its number in the text: (windows, context - 1, vocabulary), computed where they are not kept."""
        if batch in self._kept:
            return self._kept[batch]
        logs = compute()
        if sum(one.numel() for one in (*self._kept.values(), logs)) * logs.element_size() <= self.KEPT_BYTES:
            self._kept[batch] = logs
        return logs


@gives_back
def evaluate(
    model: str | Path | nn.Module | LoadedModel | None = None,
    assignment: Assignment | str | Path | None = None,
    *,
    text: str | Path | TokenText | None = None,
    part: str = "all",
    context: int | None = None,
    windows: int | None = None,
    kl: bool = True,
    tasks: Sequence[str] = (),
    task_limit: int | None = None,
    unit: str | None = None,
    promote_every: int | None = None,
    float_logs: FloatLogs | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a model, as it is or under an assignment.

    Args:
        model: see dmx.load_model.  assignment: an Assignment or its file; None is the float model.
        text: a UTF-8 file, or tokens; None is the embedded model's report text.  part: "all", or the "first" or "second" half.
        context: tokens of a window; the model's longest, at most 2048, when None.  windows: only so many.
        kl: also the mean over tokens of KL(float || quantised), in nats.
        tasks: names or files of multiple-choice tasks: see dmx.tasks.  task_limit: only so many questions of each.
        unit: a unit of mxsim.UNITS or its TOML file: every assigned linear is computed by it, bit for bit.
            promote_every: see dmx.unit_linear.apply_unit.
        float_logs: kept by the caller, where several assignments are measured on the same text: up to 1 GiB of them are computed once.
    Returns: {"perplexity", "tokens", "windows", "context", "protocol", "text", "kl_to_float", "tasks", "unit", "fake_quantisation"}; the
        last, with a unit, says how far that is from fake quantisation: its perplexity on the same tokens, and the relative difference of
        the linears' outputs.
    Raises: DmxError for input that does not fit together, and for a loss or a divergence that is not finite.
    """
    loaded = load_model(model)
    chosen = None if assignment is None else read_assignment(loaded, assignment)
    if isinstance(text, TokenText):
        tokens = fitting(loaded, text, part=part, context=context)
    else:
        tokens = report_text(loaded, text, part=part, context=context)
    tokens = tokens.first(windows)
    if tasks:
        from dmx.tasks import read_tasks

        read_tasks(tasks, task_limit)
    if promote_every is not None and unit is None:
        raise DmxError("promote_every says how a unit adds up: pass a unit with it")
    if unit is not None and chosen is None:
        raise DmxError("a unit computes assigned linears: pass an assignment with it")
    with ExitStack() as stack:
        applied: Any = None
        if chosen is not None and unit is not None:
            from dmx.unit_linear import apply_unit

            applied = stack.enter_context(apply_unit(loaded, chosen, unit, promote_every=promote_every))
        elif chosen is not None:
            applied = stack.enter_context(apply(loaded, chosen))
        if float_logs is not None and kl and applied is not None:
            float_logs.need(loaded, tokens)
        loss, divergence = 0.0, 0.0
        for i, batch in enumerate(tqdm(batches(tokens.windows), desc="perplexity", unit="batch", disable=not progress, leave=False)):
            ids = batch.to(loaded.device)
            with torch.no_grad():
                logits = logits_of(loaded.module, ids)
                logs = functional.log_softmax(logits[:, :-1].float(), -1)
                own = -float(logs.gather(-1, ids[:, 1:, None]).double().sum())
                _need_finite("loss", own, loaded, ids)
                loss += own
                if kl and applied is not None:
                    compute = partial(_float_logs, applied, loaded.module, ids)
                    reference = compute() if float_logs is None else float_logs.get(i, compute)
                    apart = float(functional.kl_div(logs, reference, log_target=True, reduction="sum"))
                    if not math.isfinite(apart):
                        with applied.suspended():
                            _need_finite("divergence from the float model, run by itself,", apart, loaded, ids)
                    divergence += apart
        scores = {}
        if tasks:
            from dmx.tasks import score_tasks

            scored = score_tasks(loaded.module, loaded.need_tokenizer(), tasks, limit=task_limit, progress=progress)
            scores = {name: score.to_json() for name, score in scored.items()}
        distance = applied.relative_difference if unit is not None else None
    beside = None
    if unit is not None:
        fake = evaluate(loaded, chosen, text=tokens, kl=False, progress=progress)
        beside = {"perplexity": fake["perplexity"], "relative_difference_of_outputs": distance}
    mean = loss / tokens.scored_tokens
    return {
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
        "tokens": tokens.scored_tokens,
        "windows": int(tokens.windows.shape[0]),
        "context": int(tokens.windows.shape[1]),
        "protocol": PROTOCOL.format(tokens.windows.shape[1]),
        "text": {"name": tokens.name, "sha256": tokens.sha256},
        "kl_to_float": (divergence / tokens.scored_tokens if chosen is not None else 0.0) if kl else None,
        "tasks": scores,
        "unit": unit,
        "fake_quantisation": beside,
    }


def _float_logs(applied: Any, module: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """(windows, context - 1, vocabulary) log-probabilities of a module without what is applied to it."""
    with applied.suspended():
        return functional.log_softmax(logits_of(module, ids)[:, :-1].float(), -1)


def _need_finite(name: str, value: float, model: LoadedModel, ids: torch.Tensor) -> None:
    """Raises: DmxError for a sum over these tokens that is not finite: it says where in the module as it is now."""
    if not math.isfinite(value):
        where = where_not_finite(model.module, lambda: logits_of(model.module, ids))
        raise DmxError(f"the {name} is {value} on a batch of {len(ids)} windows: {where}")


def report_text(
    model: LoadedModel, text: str | Path | None, *, part: str = "all", context: int | None = None, tokens: int | None = None
) -> TokenText:
    """The tokens to report on: a file's, or the embedded model's own report text, of so many tokens at least."""
    if text is None:
        if model.source != "embedded":
            raise DmxError(f"no text to measure {model.name!r} on: pass one (--text); only the embedded model brings its own")
        from dmx import reference

        own = reference.text("report") if tokens is None else reference.text("report", tokens)
        return tokenize(model, own, name="embedded world, report", context=context, part=part)
    if tokens is not None:
        raise DmxError(f"{tokens} tokens of {Path(text).name} asked for: only the embedded model's own text is as long as one likes")
    return tokenize(model, read_text(text), name=Path(text).name, context=context, part=part)


def batches(windows: torch.Tensor) -> Sequence[torch.Tensor]:
    """The windows in their order, so many at a time that a batch has about BATCH_TOKENS tokens."""
    return torch.split(windows, max(1, BATCH_TOKENS // windows.shape[1]))


def logits_of(module: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """(batch, tokens) int64 -> (batch, tokens, vocabulary) logits. Keys and values are not kept."""
    logits: torch.Tensor = module(input_ids=ids, use_cache=False).logits
    return logits
