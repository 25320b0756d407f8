"""`mxsim quantize`: the arrays of a file, quantised into a .safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.quantize_file import QuantizationError

EXAMPLES = (
    "Examples: mxsim quantize w.npy -f mxfp4_e2m1 -o w.safetensors | "
    "mxsim quantize model.safetensors -f mxfp8_e4m3 --policy compressed-tensors --tensors '*_proj.weight' -o q.safetensors"
)


def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .npy or .safetensors file of float32, float16 or bfloat16.")],
    format: Annotated[str, typer.Option("-f", "--format", help="A format that `mxsim formats` lists.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write: NAME.codes, NAME.scales.")],
    axis: Annotated[int, typer.Option(help="The axis that blocks lie along.")] = -1,
    policy: Annotated[str, typer.Option(help="Whose conversion: ocp, torchao, compressed-tensors, quark, modelopt, ...")] = "ocp",
    scale_rule: Annotated[str | None, typer.Option(help="floor | ceil | rceil | even; the policy's own if not said.")] = None,
    rounding: Annotated[
        str | None,
        typer.Option(help="nearest_even | nearest_away | nearest_zero | toward_zero | stochastic; the policy's own if not said."),
    ] = None,
    block_size: Annotated[int | None, typer.Option(help="Elements to a scale; the format's own if not said.")] = None,
    seed: Annotated[int | None, typer.Option(help="For stochastic rounding.")] = None,
    tensors: Annotated[
        list[str] | None, typer.Option(help="Names or patterns of the tensors to quantise; others are copied. Can be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Quantise a file of arrays, and say what was lost. Large files are streamed: memory stays small."""
    from tqdm import tqdm

    from mxsim.quantize_file import Request, quantize_file

    request = Request(
        format=format,
        axis=axis,
        policy=policy,
        scale_rule=scale_rule,
        rounding=rounding,
        block_size=block_size,
        seed=seed,
        tensors=tensors or (),
    )
    with tqdm(desc=f"quantising to {format}", unit=" elements", unit_scale=True, delay=2) as bar:

        def advance(count: int, total: int) -> None:
            bar.total = total
            bar.update(count)

        errors, copied = quantize_file(source, output, request, advance)
    if as_json:
        print(json_text({"output": str(output), "tensors": [e.as_json() for e in errors], "copied": copied}, indent=2))
    else:
        print(report(errors))
        print(f"\nwritten to {output}" + (f"; copied as they are: {', '.join(copied)}" if copied else ""))


def report(errors: list[QuantizationError]) -> str:
    """What was lost, a line a tensor."""
    rows = [
        [
            e.name,
            " x ".join(map(str, e.shape)),
            "-" if not e.counted else "exact" if e.snr_db is None else f"{e.snr_db:.2f}",
            f"{e.max_error:.4g}" if e.counted else "-",
            f"{100 * e.saturated / max(e.elements, 1):.3f}",
            f"{100 * e.flushed / max(e.elements, 1):.3f}",
            str(e.nonfinite),
            str(e.lost),
        ]
        for e in errors
    ]
    head = ["tensor", "shape", "SNR dB", "max error", "saturated %", "flushed %", "non-finite", "lost to it"]
    return table(head, rows, right=range(2, 8))
