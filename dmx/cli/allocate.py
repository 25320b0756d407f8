"""`dmx allocate`: each layer's formats by a published method."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dmx.cli import options
from mxsim.cli.json_text import json_text

EXAMPLES = (
    "Examples: dmx allocate --method first_order --budget bits=5.0 -o out | "
    "dmx allocate ./model --method kl --budget bits=4.5 --text calibration.txt -o out | "
    "dmx allocate ./model --method fisher --budget energy=0.75x --device vmxdotp_12nm --assume vmxdotp_12nm-bf16-twice-fp8 "
    "--formats mxfp4_e2m1,mxfp6_e2m3,mxfp8_e4m3 --text calibration.txt -o out"
)


def command(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder that assignment.json is written to.")],
    budget: options.Budgets,
    model: options.Model = None,
    method: Annotated[str, typer.Option("--method", help="uniform | first_last | kl | kl_per_bit | first_order | fisher.")] = "first_order",
    formats: options.Formats = "mxfp4_e2m1,mxfp8_e4m3",
    policy: options.Policy = "ocp",
    tie: options.Tie = False,
    apart: Annotated[bool, typer.Option("--apart", help="Weights and inputs choose each for itself; as published they do not.")] = False,
    only: options.Only = None,
    skip: options.Skip = None,
    text: options.Text = None,
    part: options.Part = "all",
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of the text that scores are measured on.")] = 32768,
    window: Annotated[int | None, typer.Option("--window", help="Tokens of a window. [default: the model's longest, at most 512]")] = None,
    seed: options.Seed = 0,
    bits_scales: options.BitsScales = "out",
    bits_weighting: options.BitsWeighting = "plain",
    device: options.Device = None,
    phase: options.PhaseKind = "decode",
    batch: options.Batch = 1,
    context: options.Context = None,
    scenario: options.Steps = None,
    kv_format: options.KvFormat = "bf16",
    assume: options.Assume = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="NAME=VALUE, a setting of the method: point=own|low|middle|high|path, reduction=abs|signed. Repeatable."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="The folder that scores are kept in, for other budgets. [default: mxsim/scores in the user's cache]"),
    ] = None,
    on: options.On = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the assignment as JSON.")] = False,
) -> None:
    """Choose each layer's formats by a published method: the baselines of the search."""
    from dmx.allocators import allocate
    from dmx.allocators.score_cache import user_folder
    from dmx.budget import Budget
    from dmx.cli.allocation_table import assignment_table
    from dmx.files import made_folder
    from dmx.models import load_model

    settings = settings_of(method, setting or [])  # and formats and budgets: what is wrong with them is told before a model is loaded
    choices = options.format_names(formats)
    where = options.scenario_of(device, phase, batch, context, scenario, kv_format, assume)
    budgets = [Budget.parse(one, where, bits_scales=bits_scales, bits_weighting=bits_weighting) for one in budget]
    made_folder(output)
    assignment = allocate(
        load_model(model, device=on),
        method,
        budgets,
        formats=choices,
        tie=tie,
        apart=apart,
        only=only or (),
        skip=skip or (),
        policy=policy,
        text=text,
        part=part,
        context=window,
        tokens=tokens,
        seed=seed,
        scenario=where,
        cache=cache or user_folder(),
        progress=True,
        **settings,
    )
    assignment.save(output)
    print(json_text(assignment.to_json()) if as_json else assignment_table(assignment))
    print(f"written to {output / 'assignment.json'}", file=sys.stderr)


def settings_of(method: str, words: list[str]) -> dict[str, Any]:
    """NAME=VALUE words. Raises: DmxError for another form, UnknownNameError for what is no method, or no setting of it."""
    from dmx.allocators import METHODS, SETTINGS
    from dmx.errors import DmxError
    from mxsim.errors import unknown_name

    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    known = SETTINGS.get(method, {})
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise DmxError(f"--set {word!r} is not NAME=VALUE, such as point=middle")
        if name not in known:  # here, where it cannot be taken for a parameter of allocate itself
            raise unknown_name(f"setting of {method}", name, known or ("none",))
        found[name] = value
    return found
