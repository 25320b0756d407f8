"""Write mmasim.npz: what mmasim 2.1.1 computes on every path it shares with our presets.

Run it in an environment of its own (see README.md); it imports nothing of this project. The operands are random bits of
chosen kinds (any bits, cancelling pairs, equal exponents, subnormals, largest, zeros, Inf, NaN) with a fixed seed.
"""

import argparse
import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmasim.amd import MFMA
from mmasim.nv_ptx import MMA, WGMMA, TCGen05MMA, TCGen05MMABlockScale

SEED = 20260101
Bits = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A float format; `ieee`: the largest exponent holds Inf and NaN alone."""

    ebits: int
    mbits: int
    ieee: bool = False
    code: type = np.uint8

    @property
    def sign(self) -> int:
        return 1 << (self.ebits + self.mbits)


FORMATS = {
    "fp32": Format(ebits=8, mbits=23, ieee=True, code=np.uint32),
    "tf32": Format(ebits=8, mbits=23, ieee=True, code=np.uint32),
    "bf16": Format(ebits=8, mbits=7, ieee=True, code=np.uint16),
    "fp16": Format(ebits=5, mbits=10, ieee=True, code=np.uint16),
    "e5m2": Format(ebits=5, mbits=2, ieee=True),
    "e4m3": Format(ebits=4, mbits=3),
    "e3m2": Format(ebits=3, mbits=2),
    "e2m3": Format(ebits=2, mbits=3),
    "e2m1": Format(ebits=2, mbits=1),
    "e5m2fnuz": Format(ebits=5, mbits=2),
    "e4m3fnuz": Format(ebits=4, mbits=3),
}
TORCH = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "e5m2": torch.float8_e5m2,
    "e4m3": torch.float8_e4m3fn,
    "e5m2fnuz": torch.float8_e5m2fnuz,
    "e4m3fnuz": torch.float8_e4m3fnuz,
    "e8m0": torch.float8_e8m0fnu,
    "ue4m3": torch.float8_e4m3fn,
}
SHAPES = {1: 16, 3: 12}  # chunks -> M = N
KINDS = (
    "any",
    "finite",
    "centre",
    "pairs",
    "equal",
    "centre",
    "finite",
    "subnormal",
    "largest",
    "pairs",
    "special",
    "small",
)
MORE_KINDS = ("any", "zeros", "finite", "equal")
C_KINDS = ("zero", "minus_zero", "any", "near", "near", "near", "cancel", "cancel", "subnormal", "special")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPath:
    """One path of one unit: `run` takes operand, C and scale bits and gives output bits."""

    unit: str
    a_format: str
    b_format: str
    out: str
    chunk: int
    run: Callable[..., Bits]
    block: int | None = None
    scale: str | None = None
    names: tuple[str, str] | None = field(default=None)

    @property
    def key(self) -> str:
        a, b = self.names or (self.a_format, self.b_format)
        return f"{self.unit}/{a}_{b}/{self.out}"


def vector(rng: np.random.Generator, format: str, kind: str, K: int, second: bool) -> Bits:
    """K codes of one kind; `pairs` of the first operand are (x, x), of the second (y, -y): together they cancel."""
    f = FORMATS[format]
    top = (1 << f.ebits) - 1
    finite_top = top - 1 if f.ieee else top
    bias = (1 << (f.ebits - 1)) - 1
    spans = {
        "finite": (0, finite_top),
        "pairs": (max(bias - 4, 0), min(bias + 4, finite_top)),
        "centre": (max(bias - 2, 0), min(bias + 2, finite_top)),
        "subnormal": (0, 0),
        "small": (0, 1),
        "largest": (finite_top - 1, finite_top),
        "special": (max(bias - 2, 0), min(bias + 2, finite_top)),
    }
    if kind == "any":
        return rng.integers(0, 2 * f.sign, K)
    sign = f.sign * rng.integers(0, 2, K)
    if kind == "zeros":
        return sign * (0 if format.endswith("fnuz") else 1)
    low, high = spans.get(kind, (exponent := int(rng.integers(0, finite_top + 1)), exponent))
    codes = rng.integers(low, high + 1, K) << f.mbits | rng.integers(0, 1 << f.mbits, K)
    if format == "e4m3":
        codes = np.where(codes == 0x7F, 0x7E, codes)
    if kind == "pairs" and K > 1:
        codes[1::2], sign[1::2] = codes[: K // 2 * 2 : 2], sign[: K // 2 * 2 : 2] ^ (f.sign if second else 0)
        codes[rng.integers(0, K)] = rng.integers(0, 1 << f.mbits)
    codes = codes | sign
    if kind == "special":
        codes[rng.integers(0, K)] = special(rng, format)
        codes[rng.integers(0, K)] &= f.sign if not format.endswith("fnuz") else 0
    return codes


def special(rng: np.random.Generator, format: str, shape: tuple[int, ...] = ()) -> Bits:
    """An infinity, twice as often as a NaN; formats without infinities give NaN, those without either their largest."""
    f = FORMATS[format]
    if format.endswith("fnuz"):
        return np.full(shape, f.sign)
    inf = ((1 << f.ebits) - 1) << f.mbits
    payload = rng.integers(1, 1 << f.mbits, shape) * (rng.integers(0, 3, shape) == 0)
    return inf | (payload if f.ieee else (1 << f.mbits) - 1) | rng.integers(0, 2, shape) * f.sign


def values(format: str, codes: Bits) -> Bits:
    """Codes as float64, only to aim C at a cancellation."""
    f = FORMATS[format]
    bias = (1 << (f.ebits - 1)) - (0 if format.endswith("fnuz") else 1)
    exponent, mantissa = codes >> f.mbits & (1 << f.ebits) - 1, codes & (1 << f.mbits) - 1
    magnitude = np.ldexp((mantissa + (exponent > 0) * (1 << f.mbits)).astype(float), np.maximum(exponent, 1) - bias - f.mbits)
    return np.where(codes & f.sign, -magnitude, magnitude)


def addend(rng: np.random.Generator, format: str, target: Bits) -> Bits:
    """C: every kind mixed; `cancel` is minus the product, give or take a few units in the last place."""
    f = FORMATS[format]
    kinds = rng.choice(len(C_KINDS), target.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        near = target.astype(np.float32 if format == "fp32" else np.float16).view(f.code).astype(np.int64)
    noise = rng.integers(-3, 4, target.shape)
    wide = near + (rng.integers(-12, 13, target.shape) << f.mbits) + noise
    options = {
        "zero": np.zeros(target.shape, np.int64),
        "minus_zero": np.full(target.shape, f.sign),
        "any": rng.integers(0, 2 * f.sign, target.shape),
        "near": np.clip(wide & f.sign - 1, 0, ((1 << f.ebits) - 1 << f.mbits) - 1) | wide & f.sign,
        "cancel": np.clip((near & f.sign - 1) + noise, 0, (1 << f.ebits) - 1 << f.mbits) | (near ^ f.sign) & f.sign,
        "subnormal": rng.integers(0, 1 << f.mbits, target.shape) | f.sign * rng.integers(0, 2, target.shape),
        "special": special(rng, format, target.shape),
    }
    return np.choose(kinds, [options[k] for k in C_KINDS]).astype(f.code)


def scale_codes(rng: np.random.Generator, format: str, count: int, blocks: int) -> Bits:
    """A row of scales each: ordinary ones first, then any code, then the ends of the range."""
    if format == "ue4m3":
        ordinary, ends = rng.integers(0x30, 0x48, (count, blocks)), np.array([0, 0x80, 1, 7, 0x7E, 0x7F, 0xFE, 0xB8])
    else:
        ordinary, ends = (
            rng.integers(122, 133, (count, blocks)),
            np.array([0, 1, 2, 64, 190, 252, 253, 254, 0, 254, 255]),
        )
    codes = np.where(np.arange(count)[:, None] % 2, rng.integers(0, 255, (count, blocks)), ordinary)
    at_an_end = np.arange(count) % 4 == 3
    codes[at_an_end] = rng.choice(ends, (int(at_an_end.sum()), blocks))
    return codes.astype(np.uint8)


def tensor(format: str, codes: Bits) -> torch.Tensor:
    if format in ("e3m2", "e2m3"):
        return torch.from_numpy(codes.astype(np.uint8))
    if format == "e2m1":
        return torch.from_numpy((codes << 2).astype(np.uint8))  # PTX keeps an FP4 in bits 5:2
    return torch.from_numpy(np.ascontiguousarray(codes)).view(TORCH[format])


def output(d: torch.Tensor) -> Bits:
    return d.contiguous().numpy().view(np.uint16 if d.dtype == torch.float16 else np.uint32)


def plain(operation: Callable[..., torch.Tensor], a_format: str, b_format: str, out: str) -> Callable[..., Bits]:
    return lambda a, b, c: output(operation(tensor(a_format, a), tensor(b_format, b), tensor(out, c)))


def mxf8f6f4(operation: Callable[..., torch.Tensor], a_format: str, b_format: str) -> Callable[..., Bits]:
    """mmasim takes one instruction, 32 of K with one scale each; several are chained here."""

    def run(a: Bits, b: Bits, c: Bits, sa: Bits, sb: Bits) -> Bits:
        ta, tb, d = tensor(a_format, a), tensor(b_format, b), tensor("fp32", c)
        for i in range(sa.shape[1]):
            k = slice(32 * i, 32 * i + 32)
            d = operation(ta[:, k], tb[k], d, tensor("e8m0", sa[:, i : i + 1]), tensor("e8m0", sb[i : i + 1]))
        return output(d)

    return run


def mxf4(operation: Callable[..., torch.Tensor], scale: str) -> Callable[..., Bits]:
    def run(a: Bits, b: Bits, c: Bits, sa: Bits, sb: Bits) -> Bits:
        packed_a = torch.from_numpy(a[:, 0::2] << 4 | a[:, 1::2])
        packed_b = torch.from_numpy(b[0::2] << 4 | b[1::2])
        return output(operation(packed_a, packed_b, tensor("fp32", c), tensor(scale, sa), tensor(scale, sb)))

    return run


PTX = {"fp16": "f16", "fp32": "f32"}
FP8 = ("e4m3", "e5m2")
F8F6F4 = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
MX = {"e4m3": "mxfp8_e4m3", "e5m2": "mxfp8_e5m2", "e3m2": "mxfp6_e3m2", "e2m3": "mxfp6_e2m3", "e2m1": "mxfp4_e2m1"}


def nvidia_mma() -> Iterator[UnitPath]:
    """mma.sync; the unit's chunk lengths for fp16 and bf16, tf32, fp8."""
    rows = (
        ("nvidia_volta", "Volta", 4, None, None),
        ("nvidia_turing", "Turing", 8, None, None),
        ("nvidia_ampere", "Ampere", 8, 4, None),
        ("nvidia_ada", "Ada Lovelace", 8, 4, 16),
        ("nvidia_hopper_mma", "Hopper", 16, 8, None),
        ("nvidia_blackwell_mma", "Blackwell", 16, 8, None),
    )
    for unit, arch, half, tf32, fp8 in rows:
        shape = {"Volta": "m8n8k4", "Turing": "m16n8k8"}.get(arch, "m16n8k16")
        paths = [("fp16", "fp16", "fp32", half, shape), ("fp16", "fp16", "fp16", half, shape)]
        if tf32:
            paths += [("bf16", "bf16", "fp32", half, shape), ("tf32", "tf32", "fp32", tf32, "m16n8k8")]
        if fp8:
            paths += [(a, b, out, fp8, "m16n8k32") for a in FP8 for b in FP8 for out in ("fp32", "fp16")]
        for a, b, out, chunk, shape in paths:
            types = ".".join([PTX[out], *(PTX.get(x, x) for x in (a, b)), PTX[out]])
            operation = MMA(arch, f"{shape}.{types}")
            yield UnitPath(unit=unit, a_format=a, b_format=b, out=out, chunk=chunk, run=plain(operation, a, b, out))


def nvidia_warpgroup() -> Iterator[UnitPath]:
    """wgmma and tcgen05.mma without block scales."""
    halves = [("fp16", "fp16", "fp32", 16), ("fp16", "fp16", "fp16", 16)]
    halves += [("bf16", "bf16", "fp32", 16), ("tf32", "tf32", "fp32", 8)]
    for unit, eights in (("nvidia_hopper_wgmma", FP8), ("nvidia_blackwell", F8F6F4)):
        for a, b, out, K in halves + [(a, b, out, 32) for a in eights for b in eights for out in ("fp32", "fp16")]:
            types = ".".join([PTX[out], *(PTX.get(x, x) for x in (a, b))])
            kind = {8: "tf32", 16: "f16", 32: "f8f6f4"}[K]
            if unit == "nvidia_blackwell":
                operation = TCGen05MMA("Blackwell", f"m128n8k{K}.kind::{kind}.{types}")
            else:
                operation = WGMMA("Hopper", f"m64n8k{K}.{types}")
            yield UnitPath(unit=unit, a_format=a, b_format=b, out=out, chunk=K, run=plain(operation, a, b, out))


def nvidia_block_scaled() -> Iterator[UnitPath]:
    for a in F8F6F4:
        for b in F8F6F4:
            if a == b == "e2m1":
                continue
            operation = TCGen05MMABlockScale("Blackwell", f"m128n8k32.kind::mxf8f6f4.block32.f32.{a}.{b}.ue8m0")
            run = mxf8f6f4(operation, a, b)
            yield scaled(a, b, 32, run, 32, "e8m0", (MX[a], MX[b]))
    for kind, block, scale, name in (("mxf4", 32, "e8m0", "mxfp4_e2m1"), ("mxf4nvf4", 16, "ue4m3", "nvfp4")):
        ptx_scale = {"e8m0": "ue8m0"}.get(scale, scale)
        operation = TCGen05MMABlockScale("Blackwell", f"m128n8k64.kind::{kind}.block{block}.f32.e2m1.e2m1.{ptx_scale}")
        yield scaled("e2m1", "e2m1", 64, mxf4(operation, scale), block, scale, (name, name))


def scaled(a: str, b: str, chunk: int, run: Callable[..., Bits], block: int, scale: str, names: tuple[str, str]) -> UnitPath:
    described = {"unit": "nvidia_blackwell", "a_format": a, "b_format": b, "out": "fp32", "names": names}
    return UnitPath(**described, chunk=chunk, run=run, block=block, scale=scale)


def amd() -> Iterator[UnitPath]:
    rows = [
        ("amd_cdna1", "fp32", "fp32", 4, "CDNA1", "f32_16x16x4f32"),
        ("amd_cdna1", "fp16", "fp16", 4, "CDNA1", "f32_16x16x16f16"),
        ("amd_cdna1", "bf16", "bf16", 2, "CDNA1", "f32_16x16x8bf16"),
        ("amd_cdna2", "fp32", "fp32", 4, "CDNA2", "f32_16x16x4f32"),
        ("amd_cdna2", "fp16", "fp16", 4, "CDNA2", "f32_16x16x16f16"),
        ("amd_cdna2", "bf16", "bf16", 4, "CDNA2", "f32_16x16x16bf16_1k"),
        ("amd_cdna3", "fp32", "fp32", 4, "CDNA3", "f32_16x16x4_f32"),
        ("amd_cdna3", "fp16", "fp16", 8, "CDNA3", "f32_16x16x16_f16"),
        ("amd_cdna3", "bf16", "bf16", 8, "CDNA3", "f32_16x16x16_bf16"),
        ("amd_cdna3", "tf32", "tf32", 4, "CDNA3", "f32_16x16x8_xf32"),
    ]
    mfma = {"e4m3fnuz": "fp8", "e5m2fnuz": "bf8"}
    rows += [("amd_cdna3", a, b, 16, "CDNA3", f"f32_16x16x32_{mfma[a]}_{mfma[b]}") for a in mfma for b in mfma]
    for unit, a, b, chunk, arch, suffix in rows:
        yield UnitPath(unit=unit, a_format=a, b_format=b, out="fp32", chunk=chunk, run=plain(MFMA(arch, suffix), a, b, "fp32"))


def operands(rng: np.random.Generator, path: UnitPath, chunks: int, size: int) -> dict[str, Bits]:
    """Operands of one matmul of the path, M = N = size: rows and columns of every kind in turn."""
    K = chunks * path.chunk
    kinds = [KINDS[i % len(KINDS)] for i in range(size)]
    a, b = (
        np.stack([vector(rng, format, kind, K, second) for kind in kinds]).astype(FORMATS[format].code)
        for format, second in ((path.a_format, False), (path.b_format, True))
    )
    # mmasim drops an Inf or NaN in C on this path, having given it the exponent -1: keep C a number here.
    fnuz = path.a_format.endswith("fnuz")
    if fnuz:
        for operand in (a, b):
            before_last = operand[:, : K - path.chunk]
            before_last[before_last == 0x80] = 0
    data = {"a": a, "b": np.ascontiguousarray(b.T)}
    with np.errstate(all="ignore"):
        target = values(path.a_format, a.astype(np.int64)) @ values(path.b_format, b.astype(np.int64)).T
    if path.block and path.scale:
        blocks = K // path.block
        data["sa"] = scale_codes(rng, path.scale, size, blocks)
        data["sb"] = np.ascontiguousarray(scale_codes(rng, path.scale, size, blocks)[::-1].T)
        if path.scale == "e8m0":
            with np.errstate(all="ignore"):
                target = np.ldexp(target, data["sa"][:, :1].astype(int) + data["sb"][:1].astype(int) - 254)
    data["c"] = addend(rng, path.out, np.nan_to_num(target, nan=0.0))
    if fnuz:
        data["c"][data["c"] & 0x7F800000 == 0x7F800000] = 0
    return data


def answers(path: UnitPath, data: dict[str, Bits]) -> Bits:
    return path.run(data["a"], data["b"], data["c"], *((data["sa"], data["sb"]) if "sa" in data else ()))


def every_path() -> list[UnitPath]:
    return [*nvidia_mma(), *nvidia_warpgroup(), *nvidia_block_scaled(), *amd()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("mmasim.npz"))
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    output_path, rng = arguments.output, np.random.default_rng(arguments.seed)
    arrays: dict[str, Bits] = {}
    for path in every_path():
        for chunks, size in SHAPES.items():
            data = operands(rng, path, chunks, size)
            for name, bits in (data | {"d": answers(path, data)}).items():
                arrays[f"{path.key}/k{chunks * path.chunk}/{name}"] = bits
    versions = {name: importlib.metadata.version(name) for name in ("mmasim", "torch", "numpy")}
    versions |= {"python": platform.python_version(), "machine": platform.machine(), "seed": str(arguments.seed)}
    arrays["versions"] = np.array([f"{name} {version}" for name, version in versions.items()])
    np.savez_compressed(output_path, **arrays)
    outputs = sum(bits.size for key, bits in arrays.items() if key.endswith("/d"))
    paths = len({key.rsplit("/", 2)[0] for key in arrays if "/" in key})
    print(f"{output_path.name}: {paths} paths, {outputs} outputs, {output_path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
