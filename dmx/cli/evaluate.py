"""`dmx evaluate`: how good a model is, as it is or under an assignment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dmx.cli import options
from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

EXAMPLES = (
    "Examples: dmx evaluate | dmx evaluate ./model --assignment out --text report.txt | "
    "dmx evaluate --assignment out --unit nvidia_blackwell --windows 32 --json | "
    "dmx evaluate ./model --text report.txt --tasks arc_easy.jsonl,winogrande.jsonl"
)


def command(
    model: options.Model = None,
    assignment: Annotated[Path | None, typer.Option("--assignment", help="An assignment.json or its folder; left out, float.")] = None,
    text: options.Text = None,
    part: options.Part = "all",
    context: Annotated[
        int | None, typer.Option("--context", help="Tokens of a window. [default: the model's longest, at most 2048]")
    ] = None,
    windows: Annotated[int | None, typer.Option("--windows", help="Only so many windows.", min=1)] = None,
    tasks: Annotated[str | None, typer.Option("--tasks", help="Names or files of multiple-choice tasks, with commas between.")] = None,
    task_limit: Annotated[int | None, typer.Option("--task-limit", help="Only so many questions of each task.", min=1)] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="A unit that computes the assigned linears: one that mxsim units lists, or a TOML file.")
    ] = None,
    promote_every: Annotated[
        int | None, typer.Option("--promote-every", help="With --unit: add up in FP32 every so many elements of K.", min=1)
    ] = None,
    kl: Annotated[bool, typer.Option("--kl/--no-kl", help="Also the divergence from the float model, at one more pass.")] = True,
    on: Annotated[str, typer.Option("--on", "--device", help="Where the model runs: cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Perplexity, divergence from the float model, and accuracy on tasks."""
    from dmx.evaluation import evaluate
    from dmx.models import load_model

    found = evaluate(
        load_model(model, device=on),
        assignment,
        text=text,
        part=part,
        context=context,
        windows=windows,
        kl=kl,
        tasks=options.words(tasks or ""),
        task_limit=task_limit,
        unit=unit,
        promote_every=promote_every,
        progress=True,
    )
    print(json_text(found) if as_json else report(found))


def report(found: dict[str, Any]) -> str:
    """The results as plain text."""
    rows = [
        ["perplexity", f"{found['perplexity']:.4f}"],
        ["tokens scored", f"{found['tokens']} in {found['windows']} windows of {found['context']}"],
        ["text", found["text"]["name"]],
        ["protocol", found["protocol"]],
    ]
    if found["kl_to_float"] is not None:
        rows.insert(1, ["KL to float, nats a token", f"{found['kl_to_float']:.6f}"])
    if found["unit"] is not None:
        beside = found["fake_quantisation"]
        rows += [
            ["linears computed by", found["unit"]],
            ["perplexity by fake quantisation", f"{beside['perplexity']:.4f}"],
            ["relative difference of outputs", f"{beside['relative_difference_of_outputs']:.3g}"],
        ]
    text = table(None, rows)
    if found["tasks"]:
        head = ["task", "accuracy", "95 % interval", "chance", "questions"]
        body = []
        for name, score in found["tasks"].items():
            low, high = score["interval_95"]
            chance = "not known" if score["chance"] is None else f"{score['chance']:.4f}"
            body.append([name, f"{score['accuracy']:.4f}", f"{low:.4f} to {high:.4f}", chance, str(score["questions"])])
        text += f"\n\n{table(head, body, right=range(1, 5))}"
    return text
