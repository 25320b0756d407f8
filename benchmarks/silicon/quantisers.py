"""Fake quantisation on a GPU: the CPU's bits, and speed as a share of the card's copy bandwidth.

`python -m benchmarks.silicon.quantisers FOLDER [--values N]` prints both tables and writes FOLDER/quantisers.json. Bits: N random float32
of each format against mxsim.fake_quantize, half of them any bits and half numbers of many magnitudes, NaN's payloads and signs of zeros
included, through the kernel beside this file and through dmx's own operations; a ladder's mixtures against the same on the CPU, which may
be rounded otherwise where steps are taken in part. Speed: CUDA events, median, of both and, where it is installed, of torchao compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mxsim
from benchmarks.silicon.fake_quantize import fake_quantize_kernel
from dmx.ladder import Ladder
from dmx.quantisers import as_numpy, fake_quantize, fake_quantize_elementwise
from mxsim.files import renamed_when_whole
from mxsim.formats import FORMATS
from mxsim.policies import POLICIES

CHUNK = 1 << 24
ON_DEVICE = [name for name, format in FORMATS.items() if not format.tensor_scale]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SPEED_ELEMENTS, ROUNDS = 1 << 28, 21


def random_values(count: int, seed: int, *, any_bits: bool) -> torch.Tensor:
    """(count / 4096, 4096) float32 on the GPU."""
    generator = torch.Generator("cuda").manual_seed(seed)
    if any_bits:
        words = torch.randint(-(1 << 31), 1 << 31, (count,), generator=generator, device="cuda", dtype=torch.int64)
        return words.to(torch.int32).view(torch.float32).view(-1, 4096)
    powers = torch.randint(-20, 21, (count,), generator=generator, device="cuda").float()
    return (torch.randn(count, generator=generator, device="cuda") * torch.exp2(powers)).view(-1, 4096)


def differing(ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """Values whose bits differ; of 16 bits NaN has no bits that both sides agree on, and counts as NaN."""
    wide = ours.element_size() == 4
    integer = torch.int32 if wide else torch.int16
    wrong = ours.contiguous().view(integer) != theirs.contiguous().view(integer)
    return int((wrong if wide else wrong & ~(torch.isnan(ours) & torch.isnan(theirs))).sum())


def bits(values: int) -> list[dict[str, Any]]:
    rows = []
    for format in ON_DEVICE:
        kernel = operations = 0
        for chunk in range(max(values // CHUNK, 2)):
            x = random_values(CHUNK, chunk, any_bits=chunk % 2 == 0)
            here = torch.from_numpy(mxsim.fake_quantize(as_numpy(x), format)).cuda()
            kernel += differing(fake_quantize_kernel(x, FORMATS[format]), here)
            operations += differing(fake_quantize_elementwise(x, FORMATS[format]), here)
        count = max(values // CHUNK, 2) * CHUNK
        rows.append({"format": format, "policy": "ocp", "dtype": "float32", "values": count, "kernel": kernel, "operations": operations})
        print(*rows[-1].values(), flush=True)
        for name, dtype in list(DTYPES.items())[1:]:
            drawn = [random_values(CHUNK, seed, any_bits=bool(seed)).to(dtype) for seed in (0, 1)]
            drawn = [torch.where(torch.isfinite(v), v, torch.ones_like(v)) for v in drawn]
            pairs = [(v, fake_quantize(v.cpu(), format).cuda()) for v in drawn]
            kernel = sum(differing(fake_quantize_kernel(v, FORMATS[format]), here) for v, here in pairs)
            operations = sum(differing(fake_quantize(v, format), here) for v, here in pairs)
            rows.append({"format": format, "policy": "ocp", "dtype": name, "values": 2 * CHUNK, "kernel": kernel, "operations": operations})
            print(*rows[-1].values(), flush=True)
    for policy in POLICIES:
        for format in FORMATS:
            x = torch.randn(1 << 16, device="cuda").view(-1, 4096)
            try:
                wrong = differing(fake_quantize(x, format, policy).cpu(), fake_quantize(x.cpu(), format, policy))
            except mxsim.MxsimError:
                continue
            rows.append({"format": format, "policy": policy, "dtype": "float32", "values": x.numel(), "operations": wrong})
    return rows


def mixtures() -> list[dict[str, Any]]:
    """A ladder's mixtures, CPU against GPU."""
    rows = []
    formats = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
    for name, dtype in DTYPES.items():
        x = random_values(CHUNK, 2, any_bits=False).to(dtype)
        x = torch.where(torch.isfinite(x), x, torch.ones_like(x))
        there = Ladder([fake_quantize(x, format) for format in formats])
        here = Ladder([value.cpu() for value in there.values])
        for degrees in ([0.3, 0.0], [0.7, 0.0], [1.0, 0.4], [0.9, 0.6], [1.0, 1.0], [0.0, 0.0]):
            wrong = differing(there.mixed(degrees, dtype).cpu(), here.mixed(degrees, dtype))
            rows.append({"dtype": name, "degrees": degrees, "values": x.numel(), "differ": wrong})
            print("mixture", *rows[-1].values(), flush=True)
    return rows


def milliseconds(run: Callable[[], object]) -> float:
    for _ in range(3):
        run()
    taken = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(end))
    return statistics.median(taken)


def speed() -> list[dict[str, Any]]:
    rows = []
    for name in ("float32", "bfloat16"):
        x = torch.randn(SPEED_ELEMENTS, device="cuda").to(DTYPES[name]).view(-1, 4096)
        y = torch.empty_like(x)
        copy = milliseconds(partial(y.copy_, x))
        for format in ON_DEVICE:
            row: dict[str, Any] = {"dtype": name, "format": format, "bytes": 2 * x.numel() * x.element_size(), "copy_ms": copy}
            row["kernel_ms"] = milliseconds(partial(fake_quantize_kernel, x, FORMATS[format]))
            part = x[: len(x) // 16]
            row["operations_ms"] = 16 * milliseconds(partial(fake_quantize_elementwise, part, FORMATS[format]))
            row["torchao_ms"] = torchao_ms(x, format)
            row["copy_again_ms"] = milliseconds(partial(y.copy_, x))
            rows.append(row)
            print(*row.values(), f"{copy / row['kernel_ms']:.2f} of copy", flush=True)
    return rows


def torchao_ms(x: torch.Tensor, format: str) -> float | str:
    """torchao's conversion there and back, compiled."""
    try:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor

        elements = {"mxfp8_e4m3": torch.float8_e4m3fn, "mxfp8_e5m2": torch.float8_e5m2, "mxfp4_e2m1": torch.float4_e2m1fn_x2}
        if format not in elements:
            return "no such format"
        run = torch.compile(lambda v: MXTensor.to_mx(v, elements[format], 32).dequantize(v.dtype))
        return milliseconds(lambda: run(x))
    except Exception as error:  # a peer's failure is its own
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--values", type=int, default=10**9)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name, measure in (("speed", speed), ("mixtures", mixtures), ("bits", partial(bits, asked.values))):
        found[name] = measure()
        with renamed_when_whole(asked.folder / "quantisers.json") as part:
            part.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
