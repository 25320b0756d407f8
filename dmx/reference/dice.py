"""Seeded draws that are the same on every platform and Python: only random.Random.random() is used, whose stream Python guarantees."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A seeded source of choices."""

    def __init__(self, seed: int) -> None:
        self._stream = random.Random(seed)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.share() < probability

    def share(self) -> float:
        """A number in 0 <= x < 1."""
        return self._stream.random()

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        return int(self.share() * limit)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in random order."""
        pool = list(items)
        for index in range(count):
            other = self.between(index, len(pool) - 1)
            pool[index], pool[other] = pool[other], pool[index]
        return pool[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All items in random order."""
        return self.sample(items, len(items))
