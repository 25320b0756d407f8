"""The unit oracle against real tensor cores, against mmasim, and against sums done by hand."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.units import dot
from tests.oracles.units.numbers import decode, encode

HARDWARE = Path(os.environ["MXSIM_SHARED_DATA"]) / "hw-vectors" if "MXSIM_SHARED_DATA" in os.environ else None
MMASIM = Path(__file__).parents[1] / "golden" / "units" / "mmasim.npz"
SAMPLE = int(os.environ.get("MXSIM_ORACLE_SAMPLE", "200"))  # of 5000 a configuration; all of them take about a minute

#: GPU -> the unit that made its fp16, bf16, tf32 outputs
GPUS = {
    "V100": "nvidia_volta",
    "A100": "nvidia_ampere",
    "A2": "nvidia_ampere",
    "Ada": "nvidia_ada",
    "H100": "nvidia_hopper_wgmma",
    "B200": "nvidia_blackwell",
}
#: (GPU, output) -> the unit that made its FP8 outputs, where another
FP8_UNITS = {
    ("H100", "fp16"): "nvidia_hopper_mma",
    ("B200", "fp16"): "nvidia_blackwell_mma",
    ("B200", "fp32"): "nvidia_blackwell_mma",
}
BF16_TF32_FP16_AND_FP32 = (("fp16", "fp32"), ("fp16", "fp16"), ("bf16", "fp32"), ("tf32", "fp32"))
FP8_BOTH = tuple((f, out) for f in ("E4M3", "E5M2") for out in ("fp32", "fp16"))
CONFIGURATIONS = [
    (gpu, format, out)
    for gpu in GPUS
    for format, out in BF16_TF32_FP16_AND_FP32[: 2 if gpu == "V100" else 4] + FP8_BOTH * (gpu in ("Ada", "H100", "B200"))
]
ELEMENTS = {
    "mxfp8_e4m3": "e4m3",
    "mxfp8_e5m2": "e5m2",
    "mxfp6_e3m2": "e3m2",
    "mxfp6_e2m3": "e2m3",
    "mxfp4_e2m1": "e2m1",
    "nvfp4": "e2m1",
}


@pytest.mark.skipif(HARDWARE is None, reason="MXSIM_SHARED_DATA is not set: no hardware vectors")
@pytest.mark.parametrize(("gpu", "format", "out"), CONFIGURATIONS)
def test_hardware(gpu: str, format: str, out: str) -> None:
    assert HARDWARE is not None
    vectors = np.load(HARDWARE / f"{gpu}.npz")
    a, b, c, d = (vectors[f"{format}_{name}"] for name in ("a", "b", "c", f"d_{out}"))
    unit = FP8_UNITS.get((gpu, out), GPUS[gpu]) if format in ("E4M3", "E5M2") else GPUS[gpu]
    if unit == "nvidia_hopper_wgmma" and format in ("E4M3", "E5M2"):
        c = np.zeros_like(c)  # those outputs were measured without C
    sample = range(0, len(d), max(1, len(d) // SAMPLE))
    element = format.lower()
    wrong = [i for i in sample if dot(unit, a[i].tolist(), element, b[i].tolist(), element, c_bits=int(c[i]), out=out) != int(d[i])]
    assert not wrong, f"{len(wrong)} of {len(sample)} differ: {wrong[:5]}"


def golden_keys() -> list[str]:
    with np.load(MMASIM) as golden:
        return sorted({key.rsplit("/", 1)[0] for key in golden.files if key.endswith("/d")})


@pytest.mark.parametrize("key", golden_keys())
def test_mmasim(key: str) -> None:
    """One output in seven, or all of them where SAMPLE asks for everything."""
    unit, formats, out, _ = key.split("/")
    words = formats.split("_")
    a_format, b_format = "_".join(words[: len(words) // 2]), "_".join(words[len(words) // 2 :])
    with np.load(MMASIM) as golden:
        a, b, c, d = (golden[f"{key}/{name}"] for name in ("a", "b", "c", "d"))
        sa, sb = (golden.get(f"{key}/{name}") for name in ("sa", "sb"))
    scale_format, block = ("ue4m3", 16) if a_format == "nvfp4" else ("e8m0", 32)
    elements = ELEMENTS.get(a_format, a_format), ELEMENTS.get(b_format, b_format)
    host_nan = unit in ("amd_cdna1", "amd_cdna2") or a_format == "fp32"
    wrong = []
    for i, j in list(np.ndindex(d.shape))[:: 1 if SAMPLE >= 5000 else 7]:
        scales = (sa[i].tolist(), sb[:, j].tolist()) if sa is not None and sb is not None else (None, None)
        operands = a[i].tolist(), elements[0], b[:, j].tolist(), elements[1]
        got = dot(unit, *operands, *scales, scale_format, block, int(c[i, j]), out, c_format=out)
        if got != d[i, j] and not (host_nan and decode(out, got).kind == decode(out, int(d[i, j])).kind == "nan"):
            wrong.append((i, j, hex(got), hex(d[i, j])))
    assert not wrong, f"{len(wrong)} differ: {wrong[:5]}"


def fp16(x: float) -> int:
    return encode(Fraction(x), "fp16")


def shadowed(big: int, small: tuple[float, ...]) -> Iterator[tuple[float, float]]:
    """Groups of four products (2^big, t, -2^big, t'): their sum is t + t' only where 2^big does not shadow t."""
    x, y = 2.0 ** (big // 2), 2.0 ** (big - big // 2)
    for t, t_ in zip(small[0::2], small[1::2], strict=True):
        yield from ((x, y), (t, 1.0), (-x, y), (t_, 1.0))


#: four chunks of 16; each power of two is the least that a fraction of 25 bits still sees, but 24 bits do not
PROBE = (
    *shadowed(30, (32.0,) * 4 + (16.0,) * 4),
    *shadowed(28, (8.0,) * 7 + (0.0,)),
    *shadowed(25, (1.0,) * 7 + (0.0,)),
    *shadowed(22, (0.125,) * 7 + (0.0,)),
)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("nvidia_volta", 0.0),
        ("nvidia_ampere", 0.0),
        ("amd_cdna2", 0.0),
        ("amd_cdna1", 255.875),
        ("nvidia_hopper_wgmma", 191.875),
        ("nvidia_hopper_mma", 191.875),
        ("mx_exact", 255.875),
    ],
)
def test_one_dot_product_tells_the_units_apart(unit: str, expected: float) -> None:
    """FTTN's answers on V100, A100, MI250X, MI100 and H100 (arXiv 2403.00232), from operands of our own."""
    a, b = zip(*PROBE, strict=True)
    bits = dot(unit, [fp16(x) for x in a], "fp16", [fp16(x) for x in b], "fp16")
    assert decode("fp32", bits).value == Fraction(expected)
