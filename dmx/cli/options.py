"""Options that several subcommands share, and what they mean together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dmx.budget import Scenario

Model = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A local folder or a hub name; left out, the embedded model.")]
Budgets = Annotated[
    list[str],
    typer.Option(
        "--budget", help="bits=5.0, bytes=.., dram=.., energy=.. (pJ) or latency=.. (s); 0.6x is a share of all-BF16. Repeatable."
    ),
]
Formats = Annotated[str, typer.Option("--formats", help="The formats to choose from, with commas between.")]
Policy = Annotated[str, typer.Option("--policy", help="Whose conversion: ocp, torchao, compressed-tensors, quark, modelopt, ...")]
Tie = Annotated[bool, typer.Option("--tie", help="q, k and v take the same formats, so do gate and up, as runtimes that fuse them need.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Pattern of linears to choose for; repeatable.")]
Skip = Annotated[list[str] | None, typer.Option("--skip", help="Pattern of linears to leave wide; repeatable.")]
Text = Annotated[str | None, typer.Option("--text", help="A UTF-8 file; left out, the embedded model's own text.")]
Part = Annotated[str, typer.Option("--part", help="all, or the first or second half of the text.")]
Seed = Annotated[int, typer.Option("--seed", help="Of whatever is drawn at random.")]
BitsScales = Annotated[str, typer.Option("--bits-scales", help="Whether bits count the scales: in or out.")]
BitsWeighting = Annotated[str, typer.Option("--bits-weighting", help="Bits as a plain mean over linears, or weighted by size.")]
Device = Annotated[str | None, typer.Option("--device", help="The device of budgets in dram, energy and latency: see mxsim hardware.")]
PhaseKind = Annotated[str, typer.Option("--phase", help="prefill or decode.")]
Batch = Annotated[int, typer.Option("--batch", help="Sequences at a time.")]
Context = Annotated[
    int | None, typer.Option("--context", help="Tokens of each prompt or cache on the device. [default: 1024, or the model's longest]")
]
Steps = Annotated[
    list[str] | None,
    typer.Option("--scenario", help="PHASE:BATCH:CONTEXT[*TIMES] in place of --phase, --batch and --context; repeat it to add up."),
]
KvFormat = Annotated[str, typer.Option("--kv-format", help="F or K:V, the KV cache.")]
Assume = Annotated[list[str] | None, typer.Option("--assume", help="An assumption of the device to accept, by name; repeatable.")]
On = Annotated[str, typer.Option("--on", help="Where the model runs: cpu or cuda.")]


def scenario_of(
    device: str | None,
    phase: str,
    batch: int,
    context: int | None,
    steps: list[str] | None,
    kv_format: str,
    assume: list[str] | None,
) -> Scenario:
    """Where and how the model runs. Raises: DmxError where the options contradict one another."""
    from dmx.budget import Scenario
    from dmx.errors import DmxError

    if steps:
        if (phase, batch, context) != ("decode", 1, None):
            raise DmxError("--scenario says the phases itself: leave out --phase, --batch and --context")
        return Scenario.parse(steps, device=device, assume=assume or (), kv_format=kv_format)
    return Scenario.of_step(phase, batch, context, device=device, assume=assume or (), kv_format=kv_format)


def words(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def format_names(text: str) -> tuple[str, ...]:
    """The formats between the commas, each known: told here, before a model is loaded."""
    from dmx.quantisers import checked_formats

    return checked_formats(words(text))
