"""Tasks of EleutherAI's lm-evaluation-harness, an optional extra: its data comes from the hub, or from files that a .yaml names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmx.errors import DmxError
from dmx.loglikelihood import not_training
from dmx.models import longest_window

if TYPE_CHECKING:
    from torch import nn

    from dmx.tasks import TaskScore


def known_tasks(names: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """The harness's manager of tasks, and what it calls each of these: name as given -> the name of the task.

    Raises: DmxError where the harness is not installed, or does not know a task.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise DmxError(
            f"{names[0]!r} is neither an embedded task nor a file, so it is taken for a task of lm-evaluation-harness, "
            f"which is not installed ({error}): pip install 'mxsim[lm-eval]', or give a .jsonl file"
        ) from error
    files = [Path(name) for name in names if Path(name).suffix in (".yaml", ".yml")]
    tasks = {str(file): _task_in(file) for file in files}
    manager = TaskManager(include_path=sorted({str(file.parent) for file in files}) or None)
    found = {name: tasks.get(str(Path(name)), name) for name in names}
    for name in found.values():
        if name not in manager.all_tasks:
            raise DmxError(
                f"unknown task {name!r}: it is no embedded task, no file, and no task of lm-evaluation-harness "
                "(its names: python -m lm_eval ls tasks)"
            )
    return manager, found


def score_harness_tasks(
    module: nn.Module,
    tokenizer: Any,
    names: Sequence[str],
    *,
    limit: int | None = None,
    batch_tokens: int = 8192,
) -> dict[str, TaskScore]:
    """Score a live module by the harness's own code.

    Args: names: of its tasks or groups of tasks, or .yaml files of either.
    Returns: name as given -> score; chance is of guessing among the choices of each question, where they are known.
    Raises: DmxError where the harness is not installed, a task is unknown or cannot be loaded, or has no accuracy.
    """
    manager, found = known_tasks(names)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    try:
        with not_training(module):
            model = HFLM(
                pretrained=module,
                tokenizer=tokenizer,
                batch_size=max(1, batch_tokens // longest_window(module)),
                device=str(next(module.parameters()).device),
            )
            outcome = simple_evaluate(model=model, tasks=list(found.values()), limit=limit, task_manager=manager, bootstrap_iters=0)
    except (OSError, ConnectionError, ValueError) as error:
        raise DmxError(
            f"lm-evaluation-harness could not run {', '.join(names)}: {error}: "
            "its data sets come from the hub; where that cannot be reached give .jsonl files"
        ) from error
    return {name: _score(task, outcome) for name, task in found.items()}


def _task_in(file: Path) -> str:
    """The name of the task, or of the group of tasks, that a .yaml file describes."""
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DmxError(f"task file {str(file)!r} cannot be read: {error.strerror or error}") from error
    for key in ("task", "group"):  # a group's "task" is a list
        named = re.search(rf"^{key}:[ \t]*([^\s\[#-]\S*)", content, re.MULTILINE)
        if named is not None:
            return named[1].strip("'\"")
    raise DmxError(f"task file {str(file)!r} names no task: a line 'task: NAME' is expected, or 'group: NAME'")


def _score(task: str, outcome: Mapping[str, Any]) -> TaskScore:
    from dmx.tasks import TaskScore

    numbers = outcome["results"].get(task) or outcome.get("groups", {}).get(task) or {}
    accuracy = numbers.get("acc,none")
    if accuracy is None:
        raise DmxError(f"task {task!r} of lm-evaluation-harness reports no accuracy but {', '.join(map(str, numbers)) or 'nothing'}")
    members = list(_members(task, outcome.get("group_subtasks", {})))
    samples = [sample for member in members for sample in outcome.get("samples", {}).get(member, [])]
    count = len(samples) or sum(int(outcome["n-samples"][member]["effective"]) for member in members)
    choices = [len(sample["arguments"]) for sample in samples]
    stderr = numbers.get("acc_stderr,none")
    return TaskScore(
        accuracy=float(accuracy),
        accuracy_normalised=float(numbers.get("acc_norm,none", accuracy)),
        stderr=float(stderr) if isinstance(stderr, float) else (accuracy * (1 - accuracy) / max(1, count - 1)) ** 0.5,
        chance=sum(1 / n for n in choices) / len(choices) if choices and min(choices) > 1 else None,
        questions=count,
    )


def _members(task: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The tasks of a group, those of its groups too; a task that is no group alone."""
    for member in groups.get(task) or ():
        yield from _members(member, groups)
    if not groups.get(task):
        yield task
