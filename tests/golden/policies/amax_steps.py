"""The scale byte of a library as a complete step function of amax."""

from collections.abc import Callable, Iterator

import numpy as np
from inputs import BLOCK, EBITS, MBITS


def amax_steps(dtype: str, scale_code: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The scale code as a step function of amax: bits at which a run of equal codes starts, and the codes.

    `scale_code` maps the bits of n amax values (each alone in a block of zeros) to n codes. All values from 0 to +Inf
    are taken for the 16-bit types. For float32 each pair of neighbouring probes (256 to an exponent) with different
    codes is bisected, then 512 values on each side of every step are taken to catch a rule that is not monotone.
    """
    kind = np.uint32 if dtype == "float32" else np.uint16
    top = (1 << (EBITS[dtype] + MBITS[dtype])) - (1 << MBITS[dtype])
    if dtype != "float32":
        probes = np.arange(top + 1, dtype=np.int64)
        codes = scale_code(probes.astype(kind))
    else:
        probes = np.unique(np.concatenate([np.arange(0, top + 1, 1 << 15), 1 << np.arange(24)]))
        codes = scale_code(probes.astype(kind))
        for low, high in _bisect(probes, codes, scale_code):
            near = np.clip(np.arange(-512, 512) + high[:, None], 0, top)
            probes = np.unique(np.concatenate([low, high, near.reshape(-1), probes]))
            codes = scale_code(probes.astype(kind))
    start = np.concatenate([[True], codes[1:] != codes[:-1]])
    return probes[start].astype(kind), codes[start]


def _bisect(
    probes: np.ndarray, codes: np.ndarray, scale_code: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    step = np.flatnonzero(codes[1:] != codes[:-1])
    low, high, low_code = probes[step], probes[step + 1], codes[step]
    while np.any(high - low > 1):
        middle = (low + high) // 2
        same = scale_code(middle.astype(np.uint32)) == low_code
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    yield low, high


def alone(amax: np.ndarray) -> np.ndarray:
    """(n,) bits -> (n, 32): each as the first value of a block of zeros."""
    blocks = np.zeros((len(amax), BLOCK), amax.dtype)
    blocks[:, 0] = amax
    return blocks
