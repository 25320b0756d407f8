"""First and last layers high: a rule of thumb. The higher format goes to blocks from both ends inwards until the budget is spent."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from dmx.allocators.greedy import cheapest, spend
from dmx.allocators.problem import Allocation, Choice, Problem
from dmx.decisions import scaled_bits

_BLOCK = re.compile(r"\.(\d+)\.")


def allocate(problem: Problem) -> Allocation:
    """No settings. Measures nothing. A layer takes the pair of most bits that still fits."""
    space = problem.space
    bits = np.array([scaled_bits(pair.weight) + scaled_bits(pair.activation) for pair in space.pairs])
    inwards = outer_first([decision.name for decision in space.decisions])
    by_bits = [int(pair) for pair in np.argsort(-bits, kind="stable")]

    def moves(choice: Choice) -> Iterator[tuple[int, int]]:
        for d in inwards:
            yield from ((d, pair) for pair in by_bits if bits[pair] > bits[choice[d]])

    return Allocation(choice=spend(problem, cheapest(problem), moves), why_no_dearer="dearer pairs would fit, but none has more bits")


def outer_first(names: list[str]) -> list[int]:
    """The places of the names: first block, last block, second, second last ...; a name without a block's number is its own block."""
    blocks: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found = _BLOCK.search(name)
        blocks.setdefault(found.group(1) if found else name, []).append(place)
    ordered = list(blocks.values())
    ends: list[int] = []
    while ordered:
        ends += ordered.pop(0)
        if ordered:
            ends += ordered.pop()
    return ends
