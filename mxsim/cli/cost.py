"""`mxsim cost`: bytes, energy and latency of every layer on a device."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.costing import CostReport
    from mxsim.pricing import LayerCost
    from mxsim.workload import Workload

EXAMPLES = (
    "Examples: mxsim cost Llama-3.1-8B --hardware b200 --format mxfp8_e4m3 | "
    "mxsim cost gpt-oss-120b --hardware mi355x --format bf16 --format mxfp4_e2m1:bf16 --batch 64 | "
    "mxsim cost ./model --hardware b200 --assignment out/assignment.json --assume b200-fp4-half-fp8 --json"
)


def command(
    model: Annotated[str, typer.Argument(help="A folder or file with config.json, a hub name, or a shipped shape such as Llama-3.1-8B.")],
    hardware: Annotated[str, typer.Option("--hardware", help="A device's name (mxsim hardware lists them), or a TOML file.")],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="W[:A] for the decoder's linears, W alone for both operands; repeat it to compare."),
    ] = None,
    assignments: Annotated[list[Path] | None, typer.Option("--assignment", help="An assignment.json; repeat it to compare.")] = None,
    phase: Annotated[str, typer.Option("--phase", help="prefill or decode.")] = "decode",
    batch: Annotated[int, typer.Option("--batch", help="Sequences at a time.")] = 1,
    context: Annotated[
        int | None,
        typer.Option("--context", help="Tokens of each prompt, or in each sequence's cache. [default: 1024, or the model's longest]"),
    ] = None,
    kv_format: Annotated[str, typer.Option("--kv-format", help="F or K:V, the KV cache.")] = "bf16",
    assume: Annotated[
        list[str] | None, typer.Option("--assume", help="An assumption of the device to accept, by name; repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Pattern of linears that take the formats, others stay bf16; repeatable.")
    ] = None,
    step_overhead_ms: Annotated[
        float, typer.Option("--step-overhead-ms", help="What the software around the matmuls takes for each step.")
    ] = 0.0,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="q, k, v run as one launch on one input where formats agree, so do gate, up: as servers run them."),
    ] = False,
    every_layer: Annotated[bool, typer.Option("--every-layer", help="Do not fold layers that cost the same.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every layer, every term, provenance.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a row a layer, every term.")] = False,
) -> None:
    """What each layer of a model costs on a device: bytes, energy, latency, and what bounds it."""
    from mxsim.costing import cost
    from mxsim.errors import MxsimError

    chosen: list[str | Path] = [*(formats or []), *(assignments or [])]
    if not chosen:
        raise MxsimError("say which formats: --format W[:A] or --assignment FILE")
    if as_json and as_csv:
        raise MxsimError("--json and --csv exclude each other")
    reports = [
        cost(
            model,
            hardware,
            choice,
            phase=phase,
            batch=batch,
            context=context,
            kv_format=kv_format,
            assume=assume or (),
            only=only or (),
            step_overhead_s=step_overhead_ms * 1e-3,
            merge=merge,
        )
        for choice in chosen
    ]
    if as_json:
        contents = [report.to_json() for report in reports]
        print(json_text(contents[0] if len(contents) == 1 else {"compared": contents}))
    elif as_csv:
        write_csv(reports)
    else:
        for report in reports:
            print(layers_table(report, fold=not every_layer), end="\n\n")
        print(totals_table(reports))
        for note in notes(reports):
            print(note, file=sys.stderr)


def write_csv(reports: list[CostReport]) -> None:
    """One row a layer, with the label of the choice in front."""
    writer: csv.DictWriter[str] | None = None
    for report in reports:
        for layer in report.layers:
            row: dict[str, Any] = {"choice": report.label, **layer.to_json()}
            if writer is None:
                writer = csv.DictWriter(sys.stdout, fieldnames=list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)


def layers_table(report: CostReport, *, fold: bool = True) -> str:
    """A row a layer, or a row for all layers of the same name and cost."""
    rows: dict[tuple[Any, ...], list[LayerCost]] = {}
    for layer in report.layers:
        name = re.sub(r"\.\d+\.", ".*.", layer.name) if fold else layer.name
        rows.setdefault((name, layer.pair, layer.price.path, id(layer.price)), []).append(layer)
    head = ["layer", "x", "formats", "path", "M x N x K", "inst", "GMAC", "stored MB", "dram MB"]
    head += ["mac", "sram", "dram", "quant", "static", "energy mJ", "us each", "bound"]
    body = [_row(str(key[0]), layers, report.workload) for key, layers in rows.items()]
    phase = report.workload.phase
    title = f"{report.workload.shape.name} on {report.device.title}, {phase.kind}, batch {phase.batch}, context {phase.context}"
    merged = ", launches merged" if report.workload.merged else ""
    told = f"{title}: {report.label}, KV cache {report.kv_pair}{merged}"
    units = (
        "attention: sequences x tokens that each attends to. GMAC to energy: sums over the x layers of a row. "
        "mac to static: energy by term, mJ. us each: latency of one layer."
    )
    return f"{told}\n{table(head, body, right=range(4, len(head) - 1))}\n{units}"


def _row(name: str, layers: list[LayerCost], workload: Workload) -> list[str]:
    first, count = layers[0], len(layers)
    matmul, price = first.matmul, first.price
    traffic, energy, time = price.traffic, price.energy, price.roofline
    formats = f"{first.pair.weight}:{first.pair.activation}" if first.pair.weight != first.pair.activation else first.pair.weight
    terms = (energy.mac_pj, energy.sram_pj, energy.dram_pj, energy.quantise_pj, energy.static_pj, energy.total_pj)
    return [
        name,
        str(count),
        formats,
        price.path if price.is_native or not matmul.macs else f"{price.path} (widened)",
        _dimensions(first, workload),
        _short(matmul.instances),
        _short(matmul.macs * count / 1e9),
        _short(traffic.stored_weight_bytes * count / 1e6),
        _short(traffic.dram_bytes * count / 1e6),
        *("?" if term is None else _short(term * count / 1e9) for term in terms),
        "?" if time is None else _short(time.latency_s * 1e6),
        "?" if time is None else time.bound,
    ]


def _dimensions(layer: LayerCost, workload: Workload) -> str:
    """M x N x K; for attention, sequences and the tokens that each attends to, which a sliding window limits."""
    matmul = layer.matmul
    if matmul.kind == "attention":
        index = int(layer.name.split(".")[2])
        return f"{workload.phase.batch} x {workload.shape.attended(index, workload.phase.context)} tokens"
    return f"{_short(matmul.rows)} x {matmul.n} x {matmul.k}" if matmul.n else "-"


def totals_table(reports: list[CostReport]) -> str:
    """The choices side by side."""
    rows: dict[str, list[str]] = {}
    for report in reports:
        totals = report.totals
        bounds = totals["latency_by_bound_s"]
        terms = totals["energy_by_term_pj"]
        cells = {
            "parameters, billion": _short(totals["parameters"] / 1e9),
            "weights stored, GB": _short(totals["weight_bytes"] / 1e9),
            "  GiB": _short(totals["weight_bytes"] / 2**30),
            "bits a weight, all": f"{totals['bits_per_weight']:.4f}",
            "bits a weight, linears": f"{totals['bits_per_linear_weight']:.4f}",
            "KV cache, bytes a token": str(totals["kv_bytes_per_token"]),
            "fits in memory": {True: "yes", False: "no", None: "?"}[totals["fits_in_memory"]],
            "off-chip traffic, GB": _short(totals["dram_bytes"] / 1e9),
            "energy, mJ": _scaled(totals["energy_pj"], 1e-9),
            **{f"  {name}": _scaled(terms[name], 1e-9) for name in terms},
            "latency, ms": _scaled(totals["latency_s"], 1e3),
            **{
                f"  {name}-bound": "?" if bounds is None else _short(bounds.get(name, 0) * 1e3)
                for name in ("compute", "memory", "overhead")
            },
            "tokens/s": _scaled(totals["tokens_per_s"], 1),
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    head = ["total", *(report.label for report in reports)]
    return table(head, [[name, *cells] for name, cells in rows.items()], right=range(1, len(head)))


def notes(reports: list[CostReport]) -> list[str]:
    """What is missing, and what was assumed: on stderr, so that data stays data."""
    device = reports[0].device
    missing = sorted({name for report in reports for name in report.missing})
    lines = []
    if missing:
        lines.append(f"? : {device.name} lacks {', '.join(missing)}")
        offered = [assumption.name for assumption in device.assumptions if assumption.name not in device.accepted]
        if offered:
            lines.append(f"    it offers --assume {' --assume '.join(offered)}: mxsim hardware {device.name} says what each assumes")
    lines += [f"assumed: {a.name}: {a.says}" for a in device.assumptions if a.name in device.accepted]
    return lines


def _scaled(value: float | None, factor: float) -> str:
    return "?" if value is None else _short(value * factor)


def _short(value: float) -> str:
    """Four significant digits, without an exponent where that is readable."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"
