"""PyTorch's FP8 product on the GPU, on real shapes: `python -m benchmarks.silicon.gemm FOLDER` keeps parts of its outputs.

The kernels' names are kept beside them. Of an (M, N) product some rows and columns are kept: an output depends on its own row and column
alone. Probes tell how K is split: one big element and one small one in a row of zeros; the small one survives where the two are added in
separate accumulators.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

#: Tokens, outputs and inputs of Llama-3.1-8B's q_proj, down_proj and gate_proj, of SmolLM2-135M's gate_proj and down_proj.
SHAPES = [(m, n, k) for n, k in ((4096, 4096), (4096, 14336), (14336, 4096), (1536, 576), (576, 1536)) for m in (16, 128, 2048)]
KEPT = 48  #: rows and columns of a product
PROBES = (256, 256, 4096)


def operands(m: int, n: int, k: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(M, K) and (N, K) E4M3: normal numbers, some of them subnormal."""
    rng = np.random.default_rng([m, n, k])
    return tuple(
        (rng.standard_normal((rows, k), np.float32) * np.float32(scale)).astype(ml_dtypes.float8_e4m3fn)
        for rows, scale in ((m, 4), (n, 0.25))
    )  # type: ignore[return-value]


def kept(size: int) -> npt.NDArray[np.int64]:
    return np.unique(np.arange(KEPT) * size // KEPT)


def probes(at: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """256 in every row at one place and 2^-9 at a place of the row's own, times ones."""
    m, n, k = PROBES
    a = np.zeros((m, k), np.float32)
    a[np.arange(m), np.arange(m) * k // m + 1] = 2.0**-9
    a[:, at] = 256
    return a.astype(ml_dtypes.float8_e4m3fn), np.ones((n, k), ml_dtypes.float8_e4m3fn)


def capture(folder: Path) -> None:
    import torch
    from torch.profiler import ProfilerActivity, profile

    folder.mkdir(parents=True, exist_ok=True)
    outputs: dict[str, npt.NDArray[Any]] = {}
    kernels: dict[str, list[str]] = {}

    def product(name: str, a: npt.NDArray[Any], b: npt.NDArray[Any], rows: Any, columns: Any) -> None:
        x, y = (torch.from_numpy(v.view(np.uint8)).cuda().view(torch.float8_e4m3fn) for v in (a, b))
        one = torch.ones((), device="cuda")
        by_row = torch.ones(len(a), 1, device="cuda"), torch.ones(1, len(b), device="cuda")
        forms: dict[str, Any] = {}
        for fast in (True, False):
            forms[f"tensor fp32 {'fast' if fast else 'exact'}"] = lambda fast=fast: torch._scaled_mm(
                x, y.t(), scale_a=one, scale_b=one, out_dtype=torch.float32, use_fast_accum=fast
            )
            forms[f"row bf16 {'fast' if fast else 'exact'}"] = lambda fast=fast: torch._scaled_mm(
                x, y.t(), scale_a=by_row[0], scale_b=by_row[1], out_dtype=torch.bfloat16, use_fast_accum=fast
            )
        forms["bf16 operands fp32"] = lambda: torch.mm(x.to(torch.bfloat16), y.to(torch.bfloat16).t(), out_dtype=torch.float32)
        for form, run in forms.items():
            try:
                with profile(activities=[ProfilerActivity.CUDA]) as seen:
                    d = run()
                    torch.cuda.synchronize()
                part = d[torch.from_numpy(rows).cuda()][:, torch.from_numpy(columns).cuda()].float().cpu().numpy()
            except RuntimeError as error:
                kernels[f"{name}/{form}"] = [f"refused: {str(error).splitlines()[0]}"]
                continue
            outputs[f"{name}/{form}"] = part
            kernels[f"{name}/{form}"] = [event.key for event in seen.key_averages()]

    for m, n, k in SHAPES:
        product(f"{m}x{n}x{k}", *operands(m, n, k), kept(m), kept(n))
    for at in (0, 1000, 2048):
        product(f"probe {at}", *probes(at), np.arange(PROBES[0]), np.arange(2))
    np.savez_compressed(folder / "gemm.npz", **outputs)
    (folder / "gemm_kernels.json").write_text(json.dumps({"torch": torch.__version__, "kernels": kernels}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    capture(parser.parse_args().folder)
