"""`mxsim compare`: two files of outputs or weights, tensor by tensor, in ULPs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

EXAMPLES = "Examples: mxsim compare ours.npy theirs.npy | mxsim compare golden.safetensors rtl.safetensors --json"


def command(
    a: Annotated[Path, typer.Argument(help="A .npy or .safetensors file.")],
    b: Annotated[Path, typer.Argument(help="The one it is held against, the reference.")],
    worst: Annotated[int, typer.Option(min=0, help="Places shown for each tensor.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two files in units in the last place; exit status 0: all bits equal, 1: they are not."""
    from tqdm import tqdm

    from mxsim.comparison import compare_files

    with tqdm(desc="comparing", unit=" elements", unit_scale=True, delay=2) as bar:
        comparisons = compare_files(a, b, worst, bar.update)
    equal = all(comparison.equal for comparison in comparisons)
    if as_json:
        print(json_text({"equal": equal, "tensors": [comparison.as_json() for comparison in comparisons]}))
    else:
        rows = [
            [
                c.name,
                "equal" if c.equal else c.detail or f"{c.differing} of {c.elements} differ",
                "-" if c.max_ulps is None else str(c.max_ulps),
                "-" if c.mean_ulps is None else f"{c.mean_ulps:.4g}",
                "; ".join(str(place) for place in c.places),
            ]
            for c in comparisons
        ]
        print(table(["tensor", "", "max ULP", "mean ULP", "worst"], rows, right=(2, 3)))
    if not equal:
        raise typer.Exit(1)
