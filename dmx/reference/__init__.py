"""The embedded reference model: a small Llama trained on text of a little world, so that everything runs offline in a minute.

The text is not stored: it follows from the split's seed, on every platform, and its hash is pinned by a test.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from dmx.errors import DmxError
from dmx.reference.dice import Dice
from dmx.reference.documents import document
from dmx.reference.questions import NAMES, QUESTIONS, Question, questions

__all__ = ["NAMES", "QUESTIONS", "SPLITS", "TOKENS", "Question", "folder", "questions", "tasks", "text", "text_sha256"]

#: split -> seed of its documents; the training text goes on for as long as it is read
SPLITS = {"train": 1, "search": 2, "report": 3}
#: the least number of tokens of the search and report texts where none is asked for
TOKENS = 65_536

_PIECE = re.compile(r"\w+|[^\w\s]|\n")


def folder() -> Path:
    """The transformers checkpoint: config, weights in safetensors, tokenizer, and the card that says how they were made."""
    return Path(__file__).parent / "model"


@lru_cache(maxsize=8)
def text(split: str, tokens: int = TOKENS) -> str:
    """Documents of the world, one a line.

    Args: split: train | search | report. tokens: the least number of tokens; every word and every mark is at least one.
    Returns: whole documents. A shorter text of a split is the beginning of a longer one.
    Raises: DmxError for an unknown split, or for less than one token.
    """
    if split not in SPLITS:
        raise DmxError(f"unknown split {split!r} of the reference text: known are {', '.join(SPLITS)}")
    if tokens < 1:
        raise DmxError(f"{tokens} tokens of text asked for: ask for 1 or more")
    dice = Dice(SPLITS[split])
    lines, count = [], 0
    while count < tokens:
        lines.append(document(dice) + "\n")
        count += len(_PIECE.findall(lines[-1]))
    return "".join(lines)


def text_sha256(split: str, tokens: int = TOKENS) -> str:
    """The SHA-256 of a split's text in UTF-8, in hex."""
    return hashlib.sha256(text(split, tokens).encode()).hexdigest()


def tasks() -> dict[str, tuple[Question, ...]]:
    """The multiple-choice tasks by name, QUESTIONS questions each."""
    return {name: questions(name) for name in NAMES}
