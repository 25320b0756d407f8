"""The fewest `dmx sweep` commands that make a folder's records again, from what the records themselves say."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import typer

from analysis.names import METHOD_ORDER
from analysis.records import Record
from dmx.cli import app
from dmx.sweep import UNSEEDED

#: Options of a command that its records' specifications know better, for the part of it that each of them is.
OF_A_RECORD = ("--methods", "--budgets", "--seeds", "--tokens", "-o", "--output")
#: Options that say how fast it was to be done, not what.
OF_SPEED = ("--workers", "--engine", "--address")
KINDS = ("bits", "bytes", "energy", "latency")

Asked = tuple[str, int, str]  #: words that are common, tokens, budget


def commands(records: Iterable[Record], folder: str) -> list[str]:
    """Of what was swept in several parts, over days or side by side: as few commands as give the same methods, budgets, seeds and lengths.

    References, which every sweep adds, need no command; a method that heeds no seed is asked for with its neighbours'.
    Args: folder: what the commands write to.
    """
    seeds: dict[Asked, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))  # by method
    for record in records:
        asked = record.specification
        if asked["budget"]:
            common = shlex.join(common_words(record.environment["command"]))
            seeds[common, asked["settings"]["tokens"], asked["budget"]["text"]][asked["method"]].add(asked["seed"])
    for by_method in seeds.values():
        for method in set(UNSEEDED) & set(by_method):
            by_method[method] = max(by_method.values(), key=len)
    methods: dict[tuple[Asked, tuple[int, ...]], set[str]] = defaultdict(set)
    for wanted, by_method in seeds.items():
        for method, drawn in by_method.items():
            methods[wanted, tuple(sorted(drawn))].add(method)
    budgets: dict[tuple[str, int, tuple[int, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for ((common, tokens, budget), every_seed), named in methods.items():
        budgets[common, tokens, every_seed, tuple(sorted(named, key=METHOD_ORDER.index))].append(budget)
    ordered = sorted(budgets.items(), key=lambda item: (min(map(by_kind, item[1])), item[0]))
    return [
        f"{common} --tokens {tokens} --methods {','.join(named)} --budgets {','.join(sorted(given, key=by_kind))} "
        f"--seeds {','.join(map(str, every_seed))} -o {folder}"
        for (common, tokens, every_seed, named), given in ordered
    ]


def by_kind(budget: str) -> tuple[int, float]:
    kind, _, amount = budget.partition("=")
    return KINDS.index(kind), float(amount.rstrip("x"))


def common_words(command: str) -> list[str]:
    """A command without the options that its records know: dmx sweep, its model, and its other options in the order of their names."""
    written = shlex.split(command)
    words = iter(written[2:] if written[:2] == ["python", "-m"] else written)
    flags = flags_of_a_sweep()
    plain: list[str] = []
    options: list[list[str]] = []
    for word in words:
        if not word.startswith("-"):
            plain.append(word)
        elif word in flags:
            options.append([word])
        else:
            name, equals, given = word.partition("=")
            options.append([name, given if equals else next(words, "")])
    return plain + [word for option in sorted(options) if option[0] not in (*OF_A_RECORD, *OF_SPEED) for word in option]


def flags_of_a_sweep() -> set[str]:
    """The options of `dmx sweep` that take no value."""
    sweep: Any = typer.main.get_command(app)
    parameters = sweep.commands["sweep"].params
    return {name for one in parameters if getattr(one, "is_flag", False) for name in (*one.opts, *one.secondary_opts)}
