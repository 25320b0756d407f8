"""Timing on machines that others use too: what is compared runs in turns, and medians are taken of every turn's own ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Run = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


def seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def turns(runs: Mapping[Name, Run], rounds: int, rest_s: float = 0.0) -> dict[Name, list[float]]:
    """Every run once to warm up, then all of them in turn, `rounds` times. Returns: seconds by name.

    Args: rest_s: seconds to sleep before each run, not counted: a BLAS's threads go on spinning for a while after its last call, and
        would take a processor from whatever is timed next.
    """
    for run in runs.values():
        run()
    taken: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(rest_s)
            taken[name].append(seconds(run))
    return taken


def ratio(slower: list[float], faster: list[float]) -> float:
    """How many times faster: the median over turns of slower / faster."""
    return statistics.median(s / f for s, f in zip(slower, faster, strict=True))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
