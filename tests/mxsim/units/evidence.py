"""Captures, golden answers and the exact oracle, as operands and answers for mxsim.matmul. Tests and reports/make_units.py share them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mxsim
from mxsim.units.operands import OPERANDS
from tests.oracles.units import dot

GOLDEN = Path(__file__).parents[2] / "golden" / "units" / "mmasim.npz"
HARDWARE = Path(os.environ["MXSIM_SHARED_DATA"]) / "hw-vectors" if "MXSIM_SHARED_DATA" in os.environ else None
FLOATS: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16}
GPUS = {
    "V100": "nvidia_volta",
    "A100": "nvidia_ampere",
    "A2": "nvidia_ampere",
    "Ada": "nvidia_ada",
    "H100": "nvidia_hopper_wgmma",
    "B200": "nvidia_blackwell",
}
FP8_UNITS = {
    ("H100", "fp16"): "nvidia_hopper_mma",
    ("B200", "fp16"): "nvidia_blackwell_mma",
    ("B200", "fp32"): "nvidia_blackwell_mma",
}
_HALVES = (("fp16", "fp32"), ("fp16", "fp16"), ("bf16", "fp32"), ("tf32", "fp32"))
_FP8 = tuple((f, out) for f in ("E4M3", "E5M2") for out in ("fp32", "fp16"))
CONFIGURATIONS = [
    (gpu, f, out) for gpu in GPUS for f, out in _HALVES[: 2 if gpu == "V100" else 4] + _FP8 * (gpu in ("Ada", "H100", "B200"))
]
Bits = npt.NDArray[Any]


def unit_of(gpu: str, format: str, out: str) -> str:
    """The unit that made a capture."""
    return FP8_UNITS.get((gpu, out), GPUS[gpu]) if format in ("E4M3", "E5M2") else GPUS[gpu]


def hardware_mismatches(gpu: str, format: str, out: str, unit: Any = None) -> tuple[int, int]:
    """(outputs that differ from the capture, captured): each is a row times a column of its own, computed in groups along a diagonal."""
    assert HARDWARE is not None
    with np.load(HARDWARE / f"{gpu}.npz") as vectors:
        a, b, c, d = (vectors[f"{format}_{name}"] for name in ("a", "b", "c", f"d_{out}"))
    name = unit_of(gpu, format, out)
    if name == "nvidia_hopper_wgmma" and format in ("E4M3", "E5M2"):
        c = np.zeros_like(c)  # measured without C
    element = OPERANDS[format.lower()]
    in_format = "tf32" if format == "tf32" else None
    wrong, group = 0, 50
    for first in range(0, len(d), group):
        at = slice(first, first + group)
        x, y = a[at].view(element.dtype), np.ascontiguousarray(b[at]).view(element.dtype).T
        addend = np.tile(c[at].view(np.float32), (x.shape[0], 1))
        got = mxsim.matmul(x, y, unit=unit or name, c=addend, out=out, in_format=in_format)
        wrong += int((np.diag(got).copy().view(d.dtype) != d[at]).sum())
    return wrong, len(d)


def golden_keys() -> list[str]:
    with np.load(GOLDEN) as golden:
        return sorted({key.rsplit("/", 1)[0] for key in golden.files if key.endswith("/d")})


def golden_mismatches(key: str, golden: Any, described: Any = None) -> tuple[int, int]:
    """(outputs that differ from mmasim's, outputs); NaN only as NaN where mmasim carries the host's payload.

    described: a unit in place of the key's.
    """
    unit, formats, out, _ = key.split("/")
    words = formats.split("_")
    fa, fb = "_".join(words[: len(words) // 2]), "_".join(words[len(words) // 2 :])
    a, b, c, d = (golden[f"{key}/{name}"] for name in ("a", "b", "c", "d"))
    if OPERANDS[fa].scale:
        x: Any = mxsim.from_codes(a, golden[f"{key}/sa"], fa, axis=1)
        y: Any = mxsim.from_codes(b, golden[f"{key}/sb"], fb, axis=0)
    else:
        x, y = a.view(OPERANDS[fa].dtype), b.view(OPERANDS[fb].dtype)
    got = mxsim.matmul(x, y, unit=described or unit, c=c.view(FLOATS[out]), out=out, in_format="tf32" if fa == "tf32" else None)
    differs = got.view(d.dtype) != d
    if unit in ("amd_cdna1", "amd_cdna2") or fa == "fp32":
        differs &= ~(np.isnan(got) & np.isnan(d.view(FLOATS[out])))
    return int(differs.sum()), int(d.size)


def preset_pairs() -> Iterator[tuple[str, str, str, str]]:
    for unit in mxsim.UNITS.values():
        for a, b, out, _ in unit.pairs():
            yield unit.name, a, b, out


def random_codes(rng: np.random.Generator, format: str, shape: tuple[int, int]) -> Bits:
    """Any bits in half of the rows, numbers near one exponent in the other, so that NaN does not drown everything."""
    f = OPERANDS[format]
    width = 8 if not f.ebits else 32 if f.code is np.uint32 else 1 + f.ebits + f.mbits
    codes = rng.integers(0, 1 << width, shape, dtype=np.uint64)
    if f.ebits > 3:
        mbits = 23 if f.code is np.uint32 else f.mbits
        near = rng.integers(-3, 4, shape) + f.bias
        calm = (rng.integers(0, 2, shape) << (width - 1)) | (near << mbits) | rng.integers(0, 1 << mbits, shape)
        rows = np.arange(shape[0]) % 4 != 3
        codes[rows] = calm[rows].astype(np.uint64)
    return codes.astype(f.code)


def oracle_mismatches(unit: str, fa: str, fb: str, out: str, seed: int, K: int = 70, size: int = 4) -> tuple[int, int]:
    """(outputs that differ from the exact oracle's, outputs): random bits, C among them, a K that no chunk divides."""
    rng = np.random.default_rng([seed, *map(ord, unit + fa + fb + out)])
    a, b = random_codes(rng, fa, (size, K)), random_codes(rng, fb, (size, K))
    c = (rng.standard_normal((size, size)) * 10.0 ** rng.integers(-4, 5, (size, size))).astype(np.float32)
    c[0] = rng.integers(0, 1 << 32, size, dtype=np.uint32).view(np.float32)
    c[1, 0], c[2, 1] = 0.0, -0.0
    elements = [f.removeprefix("mxfp8_").removeprefix("mxfp6_").removeprefix("mxfp4_").removeprefix("mx") for f in (fa, fb)]
    elements = ["e2m1" if e == "nvfp4" else e for e in elements]
    scales: list[Any] = [None, None]
    if OPERANDS[fa].scale:
        block = OPERANDS[fa].scale_block
        kinds = [rng.integers(0, 256, (size, -(-K // block))) for _ in (a, b)]
        base = 0x38 if fa == "nvfp4" else 127
        scales = [np.where(np.arange(size)[:, None] % 4 == 3, s, base + s % 9 - 4).astype(np.uint8) for s in kinds]
        x: Any = mxsim.from_codes(a, scales[0], fa, axis=1)
        y: Any = mxsim.from_codes(b, scales[1], fb, axis=1).T
    else:
        x, y = a.view(OPERANDS[fa].dtype), b.view(OPERANDS[fb].dtype).T
    if "tf32" in (fa, fb) and fa != fb and "fp32" in (fa, fb):
        return 0, 0  # one in_format speaks for both operands
    got = mxsim.matmul(x, y, unit=unit, c=c, out=out, in_format="tf32" if "tf32" in (fa, fb) else None)
    wrong = 0
    for i, j in np.ndindex(size, size):
        at = [None if s is None else s[r].tolist() for s, r in zip(scales, (i, j), strict=True)]
        kind, block = ("ue4m3", 16) if fa == "nvfp4" else ("e8m0", 32)
        bits = int(c.view(np.uint32)[i, j])
        want = dot(unit, a[i].tolist(), elements[0], b[j].tolist(), elements[1], *at, kind, block, bits, out)
        wrong += int(got.view(np.uint16 if out == "fp16" else np.uint32)[i, j]) != want
    return wrong, size * size
