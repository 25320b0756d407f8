"""The blocks every library is run on, and the file that keeps what it made of them. numpy only.

`python inputs.py` writes inputs.npz, `python inputs.py SEED` one of other random blocks; the make_<library>.py scripts
read that file, so that no random generator's version matters afterwards. Keys, with D in float32, bfloat16, float16
(values are stored as their bits):

    D/values        (rows, 128)  MX input, four blocks of 32 to a row
    D/section       (rows,)      index into the names of SECTIONS: what the row is for
    D/nvfp4         (tensors, 4, 64)  NVFP4 input: each tensor has a scale of its own
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
BLOCK = 32
COLUMNS = 128
SECTIONS = ("random", "weights", "ties", "corners", "nonfinite", "sweep")
MBITS = {"float32": 23, "bfloat16": 7, "float16": 10}
EBITS = {"float32": 8, "bfloat16": 8, "float16": 5}

# (ebits, mbits, bias, largest magnitude): OCP MX v1.0, 5.3; INT8 is a fixed-point grid of step 1/64.
ELEMENTS = {
    "e2m1": (2, 1, 1, 6.0),
    "e2m3": (2, 3, 1, 7.5),
    "e3m2": (3, 2, 3, 28.0),
    "e4m3": (4, 3, 7, 448.0),
    "e5m2": (5, 2, 15, 57344.0),
}
# Significands at which some scale rule steps: 1, every element maximum, and the half-up thresholds of "even".
STEPS = (1.0, 1.5, 1.75, 1.8125, 1.875, 1.9375, 127 / 64)
# The rest of a sweep block, relative to its amax.
COMPANIONS = (-0.5, 0.375, -0.25, 0.3125, -0.1875, 0.0625, -0.03125, 1 / 256, -1 / 1024)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Round to `dtype` (nearest even) and return the bits."""
    with np.errstate(over="ignore"):
        if dtype == "float16":
            return values.astype(np.float16).view(np.uint16)
        bits = values.astype(np.float32).view(np.uint32)
    if dtype == "float32":
        return bits
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def decode(bits: np.ndarray, dtype: str) -> np.ndarray:
    """The bits of `dtype` as float32, exactly."""
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16 if dtype == "bfloat16" else bits).view(np.float32)


def grid(element: str) -> np.ndarray:
    """Non-negative finite values of an element format, ascending."""
    if element == "int8":
        return np.arange(128) / 64
    ebits, mbits, bias, largest = ELEMENTS[element]
    codes = np.arange(1 << (ebits + mbits))
    field, fraction = codes >> mbits, codes & ((1 << mbits) - 1)
    values = np.ldexp(np.where(field > 0, (1 << mbits) + fraction, fraction).astype(float), np.maximum(field, 1) - bias - mbits)
    return values[values <= largest]


def random_blocks(dtype: str, rng: np.random.Generator) -> np.ndarray:
    normal = rng.standard_normal((24, BLOCK))
    student = rng.standard_t(2, (20, BLOCK))
    lognormal = np.exp(3 * rng.standard_normal((20, BLOCK))) * rng.choice([-1, 1], (20, BLOCK))
    spread = 1.0 if dtype == "float16" else 2.0 ** rng.integers(-40, 40, (20, 1))
    return encode(np.concatenate([normal, student, lognormal * spread]), dtype)


def weight_blocks(dtype: str, rng: np.random.Generator) -> np.ndarray:
    return encode(rng.normal(0, 0.02, (64, BLOCK)), dtype)


def tie_blocks(dtype: str) -> np.ndarray:
    """Every midpoint of every element grid and its two neighbours; a block's first value is the grid's largest."""
    rows = []
    for element in (*ELEMENTS, "int8"):
        values = grid(element)
        for shift in (0, -9):
            middle = np.maximum(encode(np.ldexp((values[1:] + values[:-1]) / 2, shift), dtype), 1)
            around = np.stack([middle - 1, middle, middle + 1], axis=1).reshape(-1)
            pad = -len(around) % (BLOCK - 1)
            around = np.concatenate([around, np.zeros(pad, around.dtype)]).reshape(-1, BLOCK - 1)
            sign = np.where(np.arange(around.size).reshape(around.shape) % 2, 1 << (EBITS[dtype] + MBITS[dtype]), 0)
            anchor = np.broadcast_to(encode(np.ldexp(values[-1:], shift), dtype), (len(around), 1))
            rows.append(np.concatenate([anchor, around | sign.astype(around.dtype)], axis=1))
    return np.concatenate(rows)


def corner_blocks(dtype: str) -> np.ndarray:
    """Zeros of both signs, underflow of both signs, subnormal blocks, blocks near the largest finite value."""
    mbits = MBITS[dtype]
    top = (1 << (EBITS[dtype] + mbits)) - (1 << mbits)  # the bits of +Inf
    negative = 1 << (EBITS[dtype] + mbits)
    one = int(encode(np.array([1.0]), dtype)[0])
    ladder = encode(np.ldexp(1.0, -np.arange(BLOCK)), dtype).astype(np.int64)
    signs = np.where(np.arange(BLOCK) % 2, negative, 0)
    blocks = [np.zeros(BLOCK), np.full(BLOCK, negative), np.arange(BLOCK) % 2 * negative]
    for single in (one, one | negative, 1, 1 | negative, top - 1, (top - 1) | negative, 1 << mbits):
        for fill in (0, negative):
            blocks.append(np.where(np.arange(BLOCK) == 7, single, fill))
    for scale in (0, 1, 20, -20, 126, -120, -126, -130, -149) if dtype != "float16" else (0, 1, 14, -10, -20):
        with np.errstate(over="ignore"):
            scaled = encode(np.ldexp(decode(ladder.astype(encode(np.zeros(1), dtype).dtype), dtype), scale), dtype)
        scaled = np.where((scaled.astype(np.int64) & ~negative) >= top, top - 1, scaled)
        blocks += [scaled | signs, scaled | (negative - signs), scaled | signs * (np.arange(BLOCK) > 4)]
    subnormal = 1 << mbits
    for largest in (
        1,
        2,
        3,
        5,
        7,
        subnormal // 8,
        subnormal // 4 + 1,
        subnormal // 2 - 1,
        subnormal // 2,
        subnormal - 1,
    ):
        blocks.append((largest * (BLOCK - np.arange(BLOCK)) // BLOCK) | signs)
    for step in (1, 2, 3, subnormal // 16, subnormal // 4):
        blocks.append((top - 1 - step * np.arange(BLOCK)) | signs)
    return np.array(blocks, np.int64).astype(encode(np.zeros(1), dtype).dtype)


def nonfinite_blocks(dtype: str, rng: np.random.Generator) -> np.ndarray:
    """One NaN, +Inf or -Inf at several places of an ordinary block; then several, mixed, alone, beside zeros."""
    mbits = MBITS[dtype]
    negative = 1 << (EBITS[dtype] + mbits)
    inf = (1 << (EBITS[dtype] + mbits)) - (1 << mbits)
    nan = inf | 1 << (mbits - 1)
    kinds = (inf, inf | negative, nan, nan | negative, inf | 1, (nan | negative) + 5)
    ordinary = encode(rng.standard_normal(BLOCK) * 3, dtype).astype(np.int64)
    zeros = np.arange(BLOCK) % 2 * negative
    blocks = []
    for kind in kinds:
        for fill in (ordinary, zeros):
            for place in (0, 5, 31):
                blocks.append(np.where(np.arange(BLOCK) == place, kind, fill))
        blocks.append(np.full(BLOCK, kind))
    blocks.append(np.where(np.arange(BLOCK) % 5 == 0, np.resize(kinds, BLOCK), ordinary))
    blocks.append(np.where(np.arange(BLOCK) % 7 == 0, np.resize(kinds[:2], BLOCK), ordinary))
    return np.array(blocks, np.int64).astype(encode(np.zeros(1), dtype).dtype)


def sweep_blocks(dtype: str) -> np.ndarray:
    """amax one step below, at and one step above 1 over all exponents, and every STEPS significand over 51 of them."""
    mbits = MBITS[dtype]
    last = (1 << EBITS[dtype]) - 2
    amax = []
    for field in range(1, last + 1):
        every = field <= 17 or field > last - 17 or abs(field - last // 2) <= 8
        mantissas = np.round((np.array(STEPS if every else STEPS[:1]) - 1) * (1 << mbits)).astype(np.int64)
        amax.append(((field << mbits) + mantissas[:, None] + np.array([-1, 0, 1])).reshape(-1))
    amax = np.concatenate(amax)
    kind = encode(np.zeros(1), dtype).dtype
    value = decode(amax.astype(kind), dtype).astype(np.float64)
    blocks = np.zeros((len(amax), BLOCK), kind)
    blocks[:, 3] = amax.astype(kind)
    blocks[:, 4 : 4 + len(COMPANIONS)] = encode(value[:, None] * COMPANIONS, dtype)
    return blocks


def nvfp4_tensors(dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Tensors of 4 x 64: the tensor's amax fixes its scale, the blocks' amax run from there down to nothing."""
    shape = (4, 64)
    half = dtype == "float16"
    tensors = [encode(rng.standard_normal(shape) * s, dtype) for s in (1.0, 0.02, 1e-3 if half else 1e-20, 100.0)]
    tensors.append(encode(rng.standard_t(2, shape), dtype))
    tensors.append(encode(np.exp(3 * rng.standard_normal(shape)), dtype))
    within = np.array([1, -1, 0.75, -5 / 6, 0.25, -5 / 12, 1 / 8, -1 / 12, 1 / 3, 7 / 12, -0.0, 0.0, 1e-3, -1e-3, 0.5, -2 / 3])
    largest = (6.0, 2688.0, 1.0, 0.1, 3.0) if half else (6.0, 2688.0, 1.0, 0.1, 3.0, 2.0**-126, 1e-39, 2.0**100, 3e38)
    for amax in largest:
        for ratio in (2.0, 1.37):
            tensors.append(encode(amax * np.outer(ratio ** -np.arange(16.0), within).reshape(shape), dtype))
    tensors.append(np.zeros(shape, tensors[0].dtype))
    zero_blocks = tensors[0].copy()
    zero_blocks[1:3, 16:48] = 0
    tensors.append(zero_blocks)
    mbits = MBITS[dtype]
    inf = (1 << (EBITS[dtype] + mbits)) - (1 << mbits)
    for bits in (inf, inf | 1 << (mbits - 1)):
        special = tensors[0].copy()
        special[2, 20] = bits
        tensors.append(special)
    for amax in () if half else (1e-42, 2e-42, 1e-41, 1e-40):  # so small that the scales, or their products, are zero
        tensors.append(encode(amax * np.outer(2.0 ** -np.arange(16.0), within).reshape(shape), dtype))
    return np.stack(tensors)


def build(seed: int = 2024) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for dtype in MBITS:
        parts = {
            "random": random_blocks(dtype, rng),
            "weights": weight_blocks(dtype, rng),
            "ties": tie_blocks(dtype),
            "corners": corner_blocks(dtype),
            "nonfinite": nonfinite_blocks(dtype, rng),
            "sweep": sweep_blocks(dtype),
        }
        rows, section = [], []
        for index, name in enumerate(SECTIONS):
            blocks = parts[name]
            pad = -len(blocks) % (COLUMNS // BLOCK)
            rows.append(np.concatenate([blocks, np.zeros((pad, BLOCK), blocks.dtype)]).reshape(-1, COLUMNS))
            section += [index] * len(rows[-1])
        arrays[f"{dtype}/values"] = np.concatenate(rows)
        arrays[f"{dtype}/section"] = np.array(section, np.uint8)
        arrays[f"{dtype}/nvfp4"] = nvfp4_tensors(dtype, rng)
    return arrays


def nibbles(packed: np.ndarray) -> np.ndarray:
    """(..., n) bytes -> (..., 2n) codes, low nibble first."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def sixes(packed: np.ndarray) -> np.ndarray:
    """(..., 3n) bytes -> (..., 4n) codes of six bits, least significant bit first."""
    words = packed.reshape(*packed.shape[:-1], -1, 3).astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    codes = words[..., None] >> np.array([0, 6, 12, 18], np.uint32) & 63
    return codes.astype(np.uint8).reshape(*packed.shape[:-1], -1)


def load() -> dict[str, np.ndarray]:
    with np.load(HERE / "inputs.npz") as file:
        return dict(file)


def save(library: str, golden: dict[str, np.ndarray], **provenance: object) -> None:
    """Write <library>.npz: the arrays, and what made them as JSON under "provenance"."""
    provenance |= {"python": platform.python_version(), "machine": platform.machine(), "numpy": np.__version__}
    np.savez_compressed(HERE / f"{library}.npz", provenance=np.array(json.dumps(provenance)), **golden)


if __name__ == "__main__":
    np.savez_compressed(HERE / "inputs.npz", **build(*map(int, sys.argv[1:2])))
