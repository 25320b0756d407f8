"""Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC 2011), and stochastic rounding's words."""

from __future__ import annotations

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # SC 2011, 4.3; Random123 philox.h
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, 32 bits
ROUNDS = 10
MASK = 0xFFFFFFFF

Words = tuple[int, int, int, int]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Four random 32-bit words for a 128-bit counter and a 64-bit key, least significant word first."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = right >> 32 ^ c1 ^ k0, right & MASK, left >> 32 ^ c3 ^ k1, left & MASK
        k0, k1 = k0 + WEYL[0] & MASK, k1 + WEYL[1] & MASK
    return c0, c1, c2, c3


def rounding_word(index: int, seed: int) -> int:
    """The word that decides element `index` (C order, the array's own shape) of a tensor rounded with `seed`."""
    group = index // 4
    words = philox4x32((group & MASK, group >> 32 & MASK, 0, 0), (seed & MASK, seed >> 32 & MASK))
    return words[index % 4]
