"""`mxsim matmul`: the product of two files as a matrix unit computes it, and how far from the exact one it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.ulps import ErrorStatistics

EXAMPLES = (
    "Examples: mxsim matmul a.npy b.npy --unit nvidia_hopper_wgmma -o d.npy | "
    "mxsim matmul x.safetensors w.safetensors --transpose-b --unit nvidia_blackwell -o d.npy | "
    "mxsim matmul a.npy b.npy --unit my_unit.toml -o d.npy --json"
)


def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="A (M, K): a .npy file, or a .safetensors file; mxsim quantize writes one.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="B (K, N): the same; blocks lie along K.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npy or .safetensors file to write D (M, N) to.")],
    unit: Annotated[str, typer.Option("-u", "--unit", help="A unit that `mxsim units` lists, or a TOML file.")] = "nvidia_blackwell",
    c: Annotated[Path | None, typer.Option("--c", help="C (M, N): float32 or float16. Zeros if not said.")] = None,
    out: Annotated[str, typer.Option("--out", help="fp32 | fp16.")] = "fp32",
    in_format: Annotated[str | None, typer.Option(help="What float32 files hold: fp32 | tf32.")] = None,
    transpose_b: Annotated[bool, typer.Option("--transpose-b", help="B is stored as (N, K), as weights are.")] = False,
    promote_every: Annotated[
        int | None, typer.Option(help="A GEMM that adds the unit's result to a separate FP32 accumulator every so many elements of K.")
    ] = None,
    tensor_a: Annotated[str | None, typer.Option(help="The tensor's name, where A's file holds several.")] = None,
    tensor_b: Annotated[str | None, typer.Option(help="The same for B.")] = None,
    tensor_c: Annotated[str | None, typer.Option(help="The same for C.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Multiply two files as a unit does, bit for bit, and say how far the result is from the exact one."""
    from mxsim.tensor import MXTensor
    from mxsim.ulps import error_statistics
    from mxsim.units.files import check_product, read_operand, write_output
    from mxsim.units.matmul import exact_product, matmul, operand_format
    from mxsim.units.toml import load_unit

    check_product(output)
    described = load_unit(unit)
    left, right = read_operand(a, tensor_a, "--tensor-a"), read_operand(b, tensor_b, "--tensor-b")
    if transpose_b:
        right = right.T
    formats = operand_format(left, "a", in_format).name, operand_format(right, "b", in_format).name
    path = described.path_for(*formats, out)
    if promote_every is not None:
        path = path.promoted(promote_every)
        described = replace(described, paths=(path,))
    addend = read_operand(c, tensor_c, "--tensor-c") if c is not None else None
    if isinstance(addend, MXTensor):
        addend = addend.dequantize()
    product = matmul(left, right, unit=described, c=addend, out=out, in_format=in_format)
    exact = exact_product(left, right, c=addend, out=out, in_format=in_format)
    errors = None if exact is None else error_statistics(product, exact)
    write_output(output, product, {"unit": described.name, "out": out})
    summary = {
        "output": str(output),
        "unit": described.name,
        "level": path.level,
        "shape": list(product.shape),
        "K": left.shape[1],
        "out": out,
        "formats": formats,
    }
    if as_json:
        print(json_text(summary | {"errors": None if errors is None else errors.as_json()}, indent=2))
    else:
        print(f"{described.name} ({path.level}): {' x '.join(formats)} -> {out}, {product.shape}, K = {left.shape[1]}")
        print(f"\n{report(errors)}\n\nwritten to {output}")


def report(errors: ErrorStatistics | None) -> str:
    """How far from one rounding of the exact sum."""
    if errors is None:
        return "No exact product of these formats is defined to compare with (see mxsim units mx_exact)."

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:.4g}"

    rows = [
        ["outputs that differ", f"{errors.differing} of {errors.elements} ({100 * errors.share_differing:.3g} %)"],
        ["ULPs, largest", number(errors.max_ulps)],
        ["ULPs, mean", number(errors.mean_ulps)],
        ["ULPs, 99 of 100 within", number(errors.p99_ulps)],
        ["relative error, largest", number(errors.max_relative)],
        ["relative error, mean", number(errors.mean_relative)],
        ["relative error, Frobenius norm", number(errors.relative_norm)],
        ["NaN or Inf beside something else", str(errors.no_distance)],
    ]
    return table(["against the exact sum, rounded once", ""], rows)
