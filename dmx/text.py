"""Text as windows of tokens, with the hash that tells one text from another."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dmx.errors import DmxError
from dmx.models import LoadedModel

#: Of a text: all of its windows, or half of them.
PARTS = ("all", "first", "second")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenText:
    """A text's tokens, cut into non-overlapping windows; what is left over at the end is dropped."""

    name: str
    sha256: str  #: of the text's UTF-8 bytes
    windows: torch.Tensor  #: (windows, context) int64

    def half(self, part: str) -> TokenText:
        """The "first" or "second" half of the windows, or "all"."""
        if part not in PARTS:
            raise DmxError(f"part {part!r} of a text is none of {', '.join(PARTS)}")
        if part == "all":
            return self
        middle = len(self.windows) // 2
        kept = self.windows[:middle] if part == "first" else self.windows[middle:]
        return TokenText(name=f"{self.name} ({part} half)", sha256=self.sha256, windows=kept)

    def first(self, windows: int | None) -> TokenText:
        """The first windows only; all of them for None."""
        if windows is not None and windows < 1:
            raise DmxError(f"{windows} windows of a text leave nothing to look at: take 1 or more")
        cut = self.windows if windows is None else self.windows[:windows]
        return TokenText(name=self.name, sha256=self.sha256, windows=cut)

    @property
    def windows_sha256(self) -> str:
        """Of the tokens themselves, which a text, a tokenizer and a length make together."""
        content = self.windows.contiguous()
        return hashlib.sha256(f"{tuple(content.shape)}\n".encode() + content.numpy().tobytes()).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """What a record knows it by."""
        return {"name": self.name, "sha256": self.sha256, "windows_sha256": self.windows_sha256}

    @property
    def scored_tokens(self) -> int:
        """Tokens that have a prediction: all but the first of each window."""
        return self.windows.shape[0] * (self.windows.shape[1] - 1)


def read_text(path: str | Path) -> str:
    """A UTF-8 file. Raises: DmxError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DmxError(f"text {str(path)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DmxError(f"text {str(path)!r} is not UTF-8: byte {error.start} is not a character") from error


def embedded_tokens(module: nn.Module) -> int:
    """How many tokens a model has an embedding of."""
    getter: Any = getattr(module, "get_input_embeddings", None)
    table = getter() if getter is not None else None
    return int(table.weight.shape[0]) if table is not None else sys.maxsize


def fitting(model: LoadedModel, text: TokenText, *, part: str = "all", context: int | None = None) -> TokenText:
    """The same text, or a half of it, once it is known to be one that the model can read.

    Args: part: "all", or the "first" or "second" half of the windows.  context: what the windows should hold, where that was asked for.
    Raises: DmxError for windows of another form than (windows, tokens) int64, wider than the model's positions or of less than 2 tokens, or
        with a token that the model has no embedding of.
    """
    windows = text.half(part).windows
    if windows.ndim != 2 or windows.dtype != torch.int64 or not len(windows):
        raise DmxError(
            f"text {text.name!r} has windows of shape {tuple(windows.shape)} and {windows.dtype}: pass (windows, tokens) of torch.int64, "
            "one window at least"
        )
    if not 2 <= windows.shape[1] <= model.longest:
        raise DmxError(f"text {text.name!r} has windows of {windows.shape[1]} tokens, which do not fit {model.name!r}: take {_fit(model)}")
    least, largest, known = int(windows.min()), int(windows.max()), embedded_tokens(model.module)
    if least < 0 or largest >= known:
        wrong = least if least < 0 else largest
        raise DmxError(
            f"text {text.name!r} holds token {wrong}, but {model.name!r} knows 0 to {known - 1}: tokenize it with the model's own tokenizer"
        )
    if context not in (None, windows.shape[1]):
        raise DmxError(f"text {text.name!r} is cut into windows of {windows.shape[1]} tokens, not of the {context} asked for: cut it anew")
    return text.half(part)


def _fit(model: LoadedModel) -> str:
    return f"2 to {model.longest}" if model.longest < sys.maxsize else "2 or more"


def tokenize(model: LoadedModel, text: str, *, name: str, context: int | None = None, part: str = "all") -> TokenText:
    """Cut a text into windows of one length, without any special tokens.

    Args: context: tokens a window; the model's longest, at most 2048, when None.  part: "all", or the "first" or "second" half of the
        windows, so that one file can serve a search and its report.
    Raises: DmxError for a text shorter than one window.
    """
    length = model.context if context is None else context
    if not 2 <= length <= model.longest:
        raise DmxError(f"a window of {length} tokens does not fit {model.name!r}: take {_fit(model)}")
    ids = model.need_tokenizer()(text, add_special_tokens=False, verbose=False)["input_ids"]
    largest, known = max(ids, default=0), embedded_tokens(model.module)
    if largest >= known:
        raise DmxError(f"the tokenizer of {model.name!r} gives token {largest}, but the model knows {known}: it is another model's")
    count = len(ids) // length
    windows = torch.tensor(ids[: count * length], dtype=torch.int64).view(count, length)
    whole = TokenText(name=name, sha256=hashlib.sha256(text.encode()).hexdigest(), windows=windows)
    found = whole.half(part)
    if not len(found.windows):
        raise DmxError(f"text {name!r} has {len(ids)} tokens, too few for a window of {length}: pass a longer text or a smaller context")
    return found
