"""Zero-shot accuracy: the embedded tasks by name, files of questions, and tasks of lm-evaluation-harness by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from dmx import reference
from dmx.errors import DmxError
from dmx.loglikelihood import Likelihood, loglikelihoods
from dmx.task_files import Item, multiple_choice, read_task

#: the name that stands for all embedded tasks
ALL_EMBEDDED = "reference"
_SUFFIXES = (".jsonl", ".zip")
#: 97.5 % point of the normal distribution, for 95 % intervals
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """How many questions a model answers right."""

    accuracy: float
    accuracy_normalised: float  #: with log-likelihoods divided by the characters of the choice
    stderr: float  #: of accuracy, from the sample
    chance: float | None  #: what guessing gives; None where it is not known
    questions: int
    groups: dict[str, TaskScore] = field(default_factory=dict)  #: by what is tested, where a file says so

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of accuracy. Source: E. B. Wilson, JASA 22 (1927) 209."""
        n, p = self.questions, self.accuracy
        middle = p + _Z * _Z / (2 * n)
        half = _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        scale = 1 + _Z * _Z / n
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

    def to_json(self, *, groups: bool = False) -> dict[str, Any]:
        """Numbers under the names of the fields, the interval among them; the groups where asked."""
        low, high = self.interval
        content: dict[str, Any] = {
            "accuracy": self.accuracy,
            "accuracy_normalised": self.accuracy_normalised,
            "stderr": self.stderr,
            "interval_95": [low, high],
            "chance": self.chance,
            "questions": self.questions,
        }
        if groups and self.groups:
            content["groups"] = {name: score.to_json() for name, score in self.groups.items()}
        return content


def score_tasks(
    module: nn.Module,
    tokenizer: Any,
    names: Sequence[str],
    limit: int | None = None,
    batch_tokens: int = 8192,
    progress: bool = True,
) -> dict[str, TaskScore]:
    """Answer questions with the likeliest choice.

    Args:
        module: a causal language model of transformers, on any device. tokenizer: its own.
        names: embedded tasks (dmx.reference.NAMES, or "reference" for all of them); .jsonl files, .zip files of them, or folders of both;
            or tasks of lm-evaluation-harness and groups of them, by name or as a .yaml file.
        limit: only the first so many questions of each task.
        batch_tokens: tokens in one forward pass.
    Returns: name -> score, in the order asked for; a file goes by its name without suffix.
    Raises: DmxError for an unknown or doubled name, a file that cannot be read, or a harness task where the harness is not installed.
    """
    if batch_tokens < 1:
        raise DmxError(f"batch_tokens is {batch_tokens}: a batch needs 1 token or more")
    sources, local = read_tasks(names, limit)
    hub = [key for key in sources if key not in local]
    scores: dict[str, TaskScore] = {}
    if hub:  # first: a missing harness should not cost a run of the others
        from dmx.lm_eval_tasks import score_harness_tasks

        scores |= score_harness_tasks(module, tokenizer, hub, limit=limit, batch_tokens=batch_tokens)
    for key, items in local.items():
        pairs = [pair for item in items for pair in item.pairs]
        found = loglikelihoods(module, tokenizer, pairs, batch_tokens=batch_tokens, progress=progress, label=key)
        scores[key] = _score(items, found)
    return {key: scores[key] for key in sources}


def read_tasks(names: Sequence[str], limit: int | None = None) -> tuple[dict[str, Path | None], dict[str, list[Item]]]:
    """task_sources, and the questions of those that are no tasks of the harness; these are known to it.

    Raises: DmxError as score_tasks does, but for what a tokenizer or the harness meets on the way: before anything is computed.
    """
    if limit is not None and limit < 1:
        raise DmxError(f"a limit of {limit} questions leaves none: ask for 1 or more")
    sources = task_sources(names)
    local = {key: _items(key, path, limit) for key, path in sources.items() if path is not None or key in reference.NAMES}
    if len(local) < len(sources):
        from dmx.lm_eval_tasks import known_tasks

        known_tasks([key for key in sources if key not in local])
    return sources, local


def task_sources(names: Sequence[str]) -> dict[str, Path | None]:
    """The tasks that names stand for: what each is called -> its file of questions; None for those embedded and the harness's.

    Raises: DmxError for a file that is not there, a folder without any, and two tasks of one name.
    """
    found: dict[str, Path | None] = {}
    for name in names:
        for key, path in _sources(str(name)):
            if key in found:
                raise DmxError(f"two tasks are called {key!r}: ask for each once, or rename a file")
            found[key] = path
    return found


def _sources(name: str) -> list[tuple[str, Path | None]]:
    if name == ALL_EMBEDDED:
        return [(task, None) for task in reference.NAMES]
    if name in reference.NAMES:
        return [(name, None)]
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if not files:
            raise DmxError(f"folder {name!r} has no tasks: {' or '.join(_SUFFIXES)} files are expected")
        return [(file.stem, file) for file in files]
    if path.suffix in _SUFFIXES or ("/" in name and path.suffix not in (".yaml", ".yml")):
        if not path.is_file():
            raise DmxError(f"task file {name!r} does not exist; embedded tasks are {ALL_EMBEDDED} (all), {', '.join(reference.NAMES)}")
        return [(path.stem, path)]
    return [(name, None)]


def _items(key: str, path: Path | None, limit: int | None) -> list[Item]:
    if path is not None:
        return read_task(path, limit)
    return [multiple_choice(q.query, q.choices, q.gold) for q in reference.questions(key)[:limit]]


def _score(items: Sequence[Item], found: Sequence[Likelihood]) -> TaskScore:
    """Count right answers. The first of several equally likely choices is the answer."""
    right: list[tuple[bool, bool]] = []
    start = 0
    for item in items:
        likelihoods = found[start : start + len(item.pairs)]
        start += len(item.pairs)
        if item.greedy:
            right.append((likelihoods[0].greedy,) * 2)
            continue
        totals = [likelihood.total for likelihood in likelihoods]
        normalised = [total / length for total, length in zip(totals, item.lengths, strict=True)]
        right.append((totals.index(max(totals)) == item.gold, normalised.index(max(normalised)) == item.gold))
    groups = {}
    for group in sorted({item.group for item in items if item.group}):
        members = [index for index, item in enumerate(items) if item.group == group]
        groups[group] = _count([items[index] for index in members], [right[index] for index in members], {})
    return _count(items, right, groups)


def _count(items: Sequence[Item], right: Sequence[tuple[bool, bool]], groups: dict[str, TaskScore]) -> TaskScore:
    count = len(items)
    accuracy = sum(plain for plain, _ in right) / count
    return TaskScore(
        accuracy=accuracy,
        accuracy_normalised=sum(normalised for _, normalised in right) / count,
        stderr=math.sqrt(accuracy * (1 - accuracy) / max(1, count - 1)),
        chance=sum(item.chance for item in items) / count,
        questions=count,
        groups=groups,
    )
