"""`dmx sweep`: every method at every budget and seed, each once; resumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dmx.cli import options
from mxsim.cli.json_text import json_text

EXAMPLES = (
    "Examples: dmx sweep -o sweep | "
    "dmx sweep ./model --text mine.txt --budgets bits=4.5,bits=5,bits=6 --methods kl,fisher,dmx --seeds 0,1,2 -o sweep | "
    "dmx sweep ./model --text mine.txt --budgets energy=0.75x,energy=0.8x --device vmxdotp_12nm "
    "--assume vmxdotp_12nm-bf16-twice-fp8 -o sweep | "
    "dmx sweep --engine ray --address auto -o sweep"
)


def command(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for records; a second call does only what is new.")],
    model: options.Model = None,
    budgets: Annotated[
        str, typer.Option("--budgets", help="With commas between; bits count scales out, as a plain mean over linears.")
    ] = "bits=4.5,bits=5,bits=5.5,bits=6,bits=7",
    methods: Annotated[
        str, typer.Option("--methods", help="Of uniform, first_last, kl, kl_per_bit, first_order, fisher, dmx, dmx_kl, dmx_paper.")
    ] = ("uniform,first_last,kl,kl_per_bit,first_order,fisher,dmx"),
    seeds: Annotated[str, typer.Option("--seeds", help="With commas between.")] = "0",
    formats: options.Formats = "mxfp4_e2m1,mxfp8_e4m3",
    policy: options.Policy = "ocp",
    tie: options.Tie = False,
    apart: Annotated[
        bool, typer.Option("--apart/--together", help="Weights and inputs choose each for itself, or together: all methods.")
    ] = True,
    text: Annotated[str | None, typer.Option("--text", help="A UTF-8 file to search on; left out, the embedded model's own.")] = None,
    report_text: Annotated[
        str | None,
        typer.Option("--report-text", help="A file to report on; left out, --text is halved: search on the first, report on the second."),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens that searches and scores look at.")] = 32768,
    window: Annotated[int | None, typer.Option("--window", help="Tokens of a window. [default: the model's longest, at most 512]")] = None,
    report_windows: Annotated[int | None, typer.Option("--report-windows", help="Report on so many windows only.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="Tasks by name or file, with commas between.")] = "",
    task_limit: Annotated[int | None, typer.Option("--task-limit", help="Only so many questions of each.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of the searches; repeatable.")] = None,
    device: options.Device = None,
    phase: options.PhaseKind = "decode",
    batch: options.Batch = 1,
    context: options.Context = None,
    scenario: options.Steps = None,
    kv_format: options.KvFormat = "bf16",
    assume: options.Assume = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes; the machine's threads are split among them.", min=1)] = 1,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray.")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="Of a Ray cluster; left out, one is started here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Run every method at every budget and seed, once each. Interrupt it anywhere and start it again."""
    from dmx.search_config import parse_settings
    from dmx.sweep import Sweep, run_sweep

    asked = Sweep(
        model=model,
        budgets=options.words(budgets),
        methods=options.words(methods),
        seeds=numbers(seeds),
        formats=options.format_names(formats),
        policy=policy,
        tie=tie,
        apart=apart,
        scenario=options.scenario_of(device, phase, batch, context, scenario, kv_format, assume),
        search_text=text,
        report_text=report_text,
        tokens=tokens,
        context=window,
        report_windows=report_windows,
        tasks=options.words(tasks),
        task_limit=task_limit,
        search=parse_settings(setting or []),
    )
    done = run_sweep(asked, output, workers=workers, engine_name=engine, address=address)
    if as_json:
        print(json_text(done))
    else:
        told = (f"{done['runs']} runs", f"{done['done_before']} were there", f"{done['done']} done", f"{len(done['failed'])} failed")
        print(f"{', '.join(told)}, {done['seconds']:.0f} s")
        if any(word.startswith("bits") for word in asked.budgets):
            print("budgets in bits: scales out, plain mean over linears")
    print(f"records are in {output / 'records'}", file=sys.stderr)
    if done["failed"]:
        raise typer.Exit(1)


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers between the commas. Raises: DmxError."""
    from dmx.errors import DmxError

    try:
        return tuple(int(word) for word in options.words(text))
    except ValueError:
        raise DmxError(f"seeds {text!r} are not whole numbers with commas between, such as 0,1,2") from None
