"""`dmx export`: a model under an assignment as a checkpoint that runtimes load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "Examples: dmx export ./model --assignment out/assignment.json --to compressed-tensors -o exported | "
    "dmx export ./model --assignment out --to mxsim --golden 4 --unit mx_exact -o exported"
)


def command(
    assignment: Annotated[Path, typer.Option(help="The assignment.json to apply, or its folder.")],
    to: Annotated[str, typer.Option("--to", help="compressed-tensors | quark | mxsim.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write; it must not exist, or be empty.")],
    model: Annotated[str | None, typer.Argument(help="A folder or a hub name; the embedded model if not said.")] = None,
    golden: Annotated[int, typer.Option(min=0, help="Input rows a layer whose exact outputs are written beside.")] = 0,
    unit: Annotated[
        str | None, typer.Option(help="The unit that golden outputs come from: `mxsim units`. [default: nvidia_blackwell]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the golden inputs.")] = 0,
) -> None:
    """Write a checkpoint with a manifest; what the target cannot hold is refused before anything is written."""
    from tqdm import tqdm

    from dmx.exporters import export

    with tqdm(desc=f"exporting to {to}", unit="B", unit_scale=True, delay=2) as bar:
        folder = export(model, assignment, to, output, golden=golden, unit=unit, seed=seed, advance=bar.update)
    print(f"written to {folder}; check it with: mxsim validate {folder}" + (f" --reference {model}" if model else ""))
