"""`dmx search`: the formats that lose the least within a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dmx.cli import options
from mxsim.cli.json_text import json_text

EXAMPLES = (
    "Examples: dmx search --budget bits=5.0 -o out | "
    "dmx search ./model --budget energy=0.75x --device vmxdotp_12nm --assume vmxdotp_12nm-bf16-twice-fp8 --text calibration.txt -o out | "
    "dmx search ./model --budget bits=5 --formats mxfp4_e2m1,mxfp6_e2m3,mxfp8_e4m3 --tie --set steps=100 --text calibration.txt -o out"
)


def command(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder for assignment.json, trajectory.json and what a resumed search needs.")
    ],
    budget: options.Budgets,
    model: options.Model = None,
    preset: Annotated[
        str, typer.Option("--preset", help="default; kl: least KL to the float model; paper: as published, without its rotations.")
    ] = "default",
    formats: Annotated[
        str | None, typer.Option("--formats", help="The ladder, with commas between. [default: mxfp4_e2m1,mxfp8_e4m3]")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Whose conversion: ocp, torchao, compressed-tensors, quark, ... [default: ocp]")
    ] = None,
    tie: Annotated[bool | None, typer.Option("--tie", help="q, k and v take the same formats, so do gate and up.")] = None,
    apart: Annotated[
        bool | None,
        typer.Option("--apart/--together", help="Weights and inputs choose each for itself, or together. [default: the preset's]"),
    ] = None,
    only: options.Only = None,
    skip: options.Skip = None,
    text: options.Text = None,
    part: options.Part = "all",
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens of the text that are looked at. [default: 32768]")] = None,
    window: Annotated[int | None, typer.Option("--window", help="Tokens of a window. [default: the model's longest, at most 512]")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of gradient descent. [default: the preset's]")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of whatever is drawn at random. [default: 0]")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, any setting of dmx.search_config; repeatable.")] = None,
    bits_scales: options.BitsScales = "out",
    bits_weighting: options.BitsWeighting = "plain",
    device: options.Device = None,
    phase: options.PhaseKind = "decode",
    batch: options.Batch = 1,
    context: options.Context = None,
    scenario: options.Steps = None,
    kv_format: options.KvFormat = "bf16",
    assume: options.Assume = None,
    on: options.On = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the assignment as JSON.")] = False,
) -> None:
    """Search each layer's formats under a budget."""
    from dmx import search_config
    from dmx.budget import Budget
    from dmx.cli.allocation_table import assignment_table
    from dmx.errors import DmxError
    from dmx.models import load_model
    from dmx.searching import search

    where = options.scenario_of(device, phase, batch, context, scenario, kv_format, assume)
    given: dict[str, Any] = {
        "tokens": tokens,
        "context": window,
        "steps": steps,
        "apart": apart,
        "policy": policy,
        "tie": tie,
        "seed": seed,
        "formats": options.format_names(formats) if formats is not None else None,
    }
    settings = search_config.parse_settings(setting or [])
    for name in settings:
        if given.get(name) is not None:
            raise DmxError(f"{name} is given twice, by --set and by an option of its own: leave one out")
    given = {name: value for name, value in given.items() if value is not None} | settings
    config = search_config.preset(preset).with_settings(given)  # and budgets: what is wrong with them is told before a model is loaded
    budgets = [Budget.parse(one, where, bits_scales=bits_scales, bits_weighting=bits_weighting) for one in budget]
    assignment = search(
        load_model(model, device=on),
        budgets,
        config=config,
        text=text,
        part=part,
        scenario=where,
        only=only or (),
        skip=skip or (),
        folder=output,
        progress=True,
    )
    print(json_text(assignment.to_json()) if as_json else assignment_table(assignment))
    print(f"written to {output / 'assignment.json'}", file=sys.stderr)
