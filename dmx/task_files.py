"""Zero-shot tasks from files: multiple choice, partial evaluation, last-word prediction and minimal pairs, by the keys of their records."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from dmx.errors import DmxError


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question as text: the likeliest of its continuations is the model's answer."""

    pairs: tuple[tuple[str, str], ...]  #: (context, continuation) of each choice
    gold: int
    lengths: tuple[int, ...]  #: characters of each choice, for the normalised accuracy
    group: str = ""  #: what it tests, where the file says so

    @property
    def greedy(self) -> bool:
        """A single continuation is right where every one of its tokens is the model's first choice."""
        return len(self.pairs) == 1

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 0.0 if self.greedy else 1 / len(self.pairs)


def multiple_choice(query: str, choices: Sequence[str], gold: int) -> Item:
    """Choices that continue a query.

    A query that starts with "Question:" and has no "Answer:" gets one, on a line of its own, as is usual for ARC and PIQA.
    """
    context = query.rstrip()
    if context.startswith("Question:") and "\nAnswer:" not in context:
        context += "\nAnswer:"
    return Item(
        pairs=tuple((context, f" {choice}") for choice in choices),
        gold=gold,
        lengths=tuple(max(1, len(choice)) for choice in choices),
    )


def task_sha256(path: Path) -> str:
    """SHA-256 of a task's file. Raises: DmxError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DmxError(f"task file {str(path)!r} cannot be read: {error}") from error


def read_task(path: Path, limit: int | None = None) -> list[Item]:
    """The questions of one .jsonl file, or of all .jsonl files of a .zip in turn, so that the first N touch every one of them.

    Args: limit: read only so many; all of them for None.
    Raises: DmxError for what cannot be read, with the line.
    """
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if name.endswith(".jsonl") and not Path(name).name.startswith("."))
                names = [name for name in names if not name.startswith("__MACOSX")]
                parts = [_items(archive.read(name).decode("utf-8"), f"{path.name}/{name}") for name in names]
        else:
            parts = [_items(path.read_text(encoding="utf-8"), path.name)]
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, UnicodeDecodeError) as error:  # RuntimeError: it wants a password
        raise DmxError(f"task file {str(path)!r} cannot be read: {error}") from error
    items = list(islice((item for item in chain.from_iterable(zip_longest(*parts)) if item is not None), limit))
    if not items:
        raise DmxError(f"task file {str(path)!r} has no questions: one JSON object a line is expected")
    return items


def _items(text: str, name: str) -> Iterator[Item]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DmxError(f"{name}, line {number}: not JSON: {error}") from error
        yield _item(record, f"{name}, line {number}")


def _item(record: Any, where: str) -> Item:
    if not isinstance(record, dict):
        raise DmxError(f"{where}: a JSON object is expected, got {type(record).__name__}")
    for keys, reader in _LAYOUTS.items():
        if all(key in record for key in keys):
            try:
                item = reader(record)
            except (TypeError, AttributeError, IndexError) as error:
                raise DmxError(f"{where}: the values of {', '.join(keys)} do not fit the layout: {error}") from error
            if not 0 <= item.gold < len(item.pairs):
                raise DmxError(f"{where}: gold is {item.gold}, but there are {len(item.pairs)} choices, counted from 0")
            if not all(continuation.strip() for _, continuation in item.pairs):
                raise DmxError(f"{where}: a choice or continuation is empty: each needs a word or more")
            return item
    layouts = "; ".join(", ".join(keys) for keys in _LAYOUTS)
    raise DmxError(f"{where}: the keys are {', '.join(map(str, record)) or 'none'}; known layouts are {layouts}")


def _choices(record: dict[str, Any]) -> Item:
    return multiple_choice(record["query"], [choice.strip() for choice in _several(record["choices"])], _index(record["gold"]))


def _partial(record: dict[str, Any]) -> Item:
    """WinoGrande's way: the same ending after either context; so length changes nothing."""
    ending = record["continuation"].strip()
    contexts = [context.rstrip() for context in _several(record["context_options"])]
    return Item(
        pairs=tuple((context, f" {ending}") for context in contexts),
        gold=_index(record["gold"]),
        lengths=(max(1, len(ending)),) * len(contexts),
    )


def _minimal_pair(record: dict[str, Any]) -> Item:
    """BLiMP: the good sentence should be the likelier one."""
    sentences = (record["sentence_good"].strip(), record["sentence_bad"].strip())
    return Item(
        pairs=(("", sentences[0]), ("", sentences[1])),
        gold=0,
        lengths=(max(1, len(sentences[0])), max(1, len(sentences[1]))),
        group=str(record.get("linguistics_term", "")),
    )


def _last_word(record: dict[str, Any]) -> Item:
    """LAMBADA: the last word, from all that comes before it."""
    context, _, word = record["text"].rstrip().rpartition(" ")
    return Item(pairs=((context, f" {word}"),), gold=0, lengths=(max(1, len(word)),))


def _several(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) < 2:
        raise TypeError(f"{value!r} is no list of two choices or more")
    return value


def _index(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"gold is {value!r}, not a whole number")
    return value


_LAYOUTS: dict[tuple[str, ...], Callable[[dict[str, Any]], Item]] = {
    ("query", "choices", "gold"): _choices,
    ("context_options", "continuation", "gold"): _partial,
    ("sentence_good", "sentence_bad"): _minimal_pair,
    ("text",): _last_word,
}
