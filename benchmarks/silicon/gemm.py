"""PyTorch's FP8 product on the GPU, on real shapes: `python -m benchmarks.silicon.gemm FOLDER [--compare]`.

Keeps parts of the outputs and the kernels' names; with --compare, which needs no GPU, holds what is kept against mxsim's models of a chain
of wgmma, promoted to a separate accumulator or not. Of an (M, N) product some rows and columns are kept: an output depends on its own row
and column alone. Probes tell how K is split: one big element and one small one in a row of zeros; the small one survives where the two are
added in separate accumulators.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

import mxsim

#: Tokens, outputs and inputs of Llama-3.1-8B's q_proj, down_proj and gate_proj, of SmolLM2-135M's gate_proj and down_proj.
SHAPES = [(m, n, k) for n, k in ((4096, 4096), (4096, 14336), (14336, 4096), (1536, 576), (576, 1536)) for m in (16, 128, 2048)]
KEPT = 48  #: rows and columns of a product
PROBED = (256, 256, 4096)
PROMOTED = (32, 64, 128, 256, 512)  #: elements of K between two additions to the separate accumulator
UNIT = mxsim.UNITS["nvidia_hopper_wgmma"]
E4M3 = ml_dtypes.float8_e4m3fn
#: What is asked of PyTorch. Scales are 1: of a tensor, or of rows and columns.
FORMS = (
    *(
        f"{scales} {out} {accumulation}"
        for scales, out in (("tensor", "fp32"), ("row", "fp32"), ("row", "bf16"))
        for accumulation in ("fast", "exact")
    ),
    "bf16 operands fp32",
)

Codes = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Product:
    """Operands, and which of the outputs are kept."""

    name: str
    a: Codes  #: (M, K) E4M3
    b: Codes  #: (N, K) E4M3
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    @property
    def kept(self) -> tuple[Codes, Codes]:
        """Operands of the outputs that are kept."""
        return self.a[self.rows], self.b[self.columns]

    @property
    def digest(self) -> str:
        """Of those, so that a comparison elsewhere knows that it made the same."""
        return hashlib.sha256(b"".join(codes.tobytes() for codes in self.kept)).hexdigest()


def products() -> Iterator[Product]:
    """Normal numbers, some of them subnormal, in every shape; and probes."""
    for m, n, k in SHAPES:
        rng = np.random.default_rng([m, n, k])
        a, b = ((rng.standard_normal((rows, k), np.float32) * np.float32(scale)).astype(E4M3) for rows, scale in ((m, 4), (n, 0.25)))
        yield Product(f"{m}x{n}x{k}", a, b, _spread(m), _spread(n))
    for at in (0, 1000, 2048):
        yield probe(at)
        yield probe(at, taken_away=True)


def probe(at: int, *, taken_away: bool = False) -> Product:
    """256 in every row at one place and 2^-9 at a place of the row's own, times ones. Args: taken_away: and -256 at the end."""
    m, n, k = PROBED
    a = np.zeros((m, k), np.float32)
    a[np.arange(m), np.arange(m) * k // m + 1] = 2.0**-9
    a[:, at] = 256
    if taken_away:
        a[:, -1] = -256
    return Product(f"probe {at}{' taken away' if taken_away else ''}", a.astype(E4M3), np.ones((n, k), E4M3), np.arange(m), np.arange(2))


def _spread(size: int) -> npt.NDArray[np.int64]:
    return np.unique(np.arange(KEPT) * size // KEPT)


def capture(folder: Path) -> None:
    """Writes gemm.npz (float32, by product and form) and gemm_kernels.json."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    folder.mkdir(parents=True, exist_ok=True)
    outputs: dict[str, npt.NDArray[Any]] = {}
    kernels: dict[str, list[str]] = {}
    digests: dict[str, str] = {}
    with profile(activities=[ProfilerActivity.CUDA]):  # the first of them may miss what runs while it starts
        torch.ones(16, device="cuda").sum().item()
    for product in products():
        digests[product.name] = product.digest
        x, y = (torch.from_numpy(v.view(np.uint8)).cuda().view(torch.float8_e4m3fn) for v in (product.a, product.b))
        rows, columns = (torch.from_numpy(places).cuda() for places in (product.rows, product.columns))
        for form in FORMS:
            try:
                with profile(activities=[ProfilerActivity.CUDA]) as seen:
                    d = _asked(form, x, y)
                    torch.cuda.synchronize()
            except Exception as error:  # what this PyTorch does not do is told, and the rest is done
                kernels[f"{product.name}/{form}"] = [f"refused: {type(error).__name__}: {error}".splitlines()[0]]
                continue
            outputs[f"{product.name}/{form}"] = d[rows][:, columns].float().cpu().numpy()
            kernels[f"{product.name}/{form}"] = [event.key for event in seen.key_averages()]
    np.savez_compressed(folder / "gemm.npz", **outputs)  # type: ignore[arg-type]
    told = {"torch": torch.__version__, "digests": digests, "kernels": kernels}
    (folder / "gemm_kernels.json").write_text(json.dumps(told, indent=1) + "\n")


def _asked(form: str, x: Any, y: Any) -> Any:
    """x y^T in one of FORMS."""
    import torch

    scales, out, *fast = form.split()
    if scales == "bf16":
        return torch.mm(x.to(torch.bfloat16), y.to(torch.bfloat16).t(), out_dtype=torch.float32)
    shapes = ((), ()) if scales == "tensor" else ((len(x), 1), (1, len(y)))
    by_x, by_y = (torch.ones(shape, device=x.device) for shape in shapes)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[out]
    return torch._scaled_mm(x, y.t(), scale_a=by_x, scale_b=by_y, out_dtype=dtype, use_fast_accum=fast == ["fast"])


def compared(folder: Path) -> dict[str, dict[str, int]]:
    """Outputs that differ from each model's, of every kept product and form."""
    found: dict[str, dict[str, int]] = {}
    digests = json.loads((folder / "gemm_kernels.json").read_text())["digests"]
    with np.load(folder / "gemm.npz") as outputs:
        for product in products():
            if digests[product.name] != product.digest:
                raise SystemExit(f"{product.name}: the operands made here are not those captured; compare where they were")
            a, b = product.kept
            for form in FORMS:
                if f"{product.name}/{form}" in outputs:
                    got = outputs[f"{product.name}/{form}"]
                    found[f"{product.name}/{form}"] = {
                        name: int((got.view(np.uint32) != d.view(np.uint32)).sum()) for name, d in modelled(form, a, b).items()
                    }
    return found


def modelled(form: str, a: Codes, b: Codes) -> dict[str, npt.NDArray[np.float32]]:
    """(M, N) of every model, by its name."""
    if form.startswith("bf16"):
        x, y = (codes.astype(np.float32).astype(ml_dtypes.bfloat16) for codes in (a, b))
        return {"chain": mxsim.matmul(x, y.T, unit=UNIT)}
    units = {"chain": UNIT} | {f"promoted {every}": UNIT.promoted(every) for every in PROMOTED}
    found = {name: mxsim.matmul(a, b.T, unit=unit) for name, unit in units.items()}
    return found if "fp32" in form else {name: d.astype(ml_dtypes.bfloat16).astype(np.float32) for name, d in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", action="store_true")
    asked = parser.parse_args()
    if not asked.compare:
        capture(asked.folder)
        return
    kernels = json.loads((asked.folder / "gemm_kernels.json").read_text())["kernels"]
    print(*(f"{name}: {told[0]}" for name, told in kernels.items() if told and told[0].startswith("refused")), sep="\n")
    for name, differing in compared(asked.folder).items():
        print(name, differing, *kernels[name])


if __name__ == "__main__":
    main()
