"""`mxsim hardware`: the devices, their figures and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.devices import Device, Figure

EXAMPLES = "Examples: mxsim hardware | mxsim hardware b200 | mxsim hardware mine.toml --json"


def command(
    name: Annotated[str | None, typer.Argument(help="One device, or a TOML file, with every figure and its provenance.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The devices: rates, bandwidths, energies, with the provenance of every number and what is assumed."""
    from mxsim.devices import device_names, load_device

    chosen = [load_device(one) for one in ([name] if name else device_names())]
    if as_json:
        print(json_text({"hardware": [describe(device) for device in chosen]}))
    elif name:
        print(one_device(chosen[0]))
    else:
        print(overview(chosen))


def describe(device: Device) -> dict[str, Any]:
    """A device as JSON."""
    return {
        "name": device.name,
        "title": device.title,
        "notes": device.notes,
        "wide_path": device.wide_path,
        "paths": {path.name: list(path.pairs) for path in device.paths},
        "figures": {key: _figure(figure) for key, figure in device.figures()},
        "assumptions": [
            {"name": a.name, "says": a.says, "figures": {key: _figure(figure) for key, figure in a.figures.items()}}
            for a in device.assumptions
        ],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "kind": figure.kind, "source": figure.source}


def overview(devices: list[Device]) -> str:
    rows = []
    for device in devices:
        rates = [
            f"{path.name} {path.peak_flop_per_s.value / 1e12:g}" if path.peak_flop_per_s.value >= 1e12 else path.name
            for path in device.paths
            if path.peak_flop_per_s is not None
        ]
        known = [path for path in device.paths if path.mac_energy_pj is not None]
        complete = len(known) == len(device.paths) and device.memory.energy_pj_per_bit is not None
        kinds = [figure.kind for _, figure in device.figures()]
        bandwidth, capacity = device.memory.bandwidth_bytes_per_s, device.memory.capacity_bytes
        rows.append(
            [
                device.name,
                ", ".join(rates) or "-",
                f"{bandwidth.value / 1e12:g}" if bandwidth else "-",
                f"{capacity.value / 1e9:.4g}" if capacity else "-",
                "yes" if complete else f"{len(known)} of {len(device.paths)} paths",
                f"{kinds.count('assumed')} of {len(kinds)}",
                ", ".join(assumption.name for assumption in device.assumptions) or "-",
            ]
        )
    head = ["device", "dense TFLOPS", "TB/s", "GB", "energy", "assumed", "--assume offers"]
    notes = "energy: paths whose energy per MAC is known. assumed: figures of that kind. mxsim hardware NAME lists every figure."
    return f"{table(head, rows, right=range(2, 4))}\n\n{notes}"


def one_device(device: Device) -> str:
    """Every figure of a device."""
    paths = [[path.name, " ".join(path.pairs)] for path in device.paths]
    figures = [[key, f"{figure.value:.6g}", figure.kind, figure.source] for key, figure in device.figures()]
    parts = [
        f"{device.name}: {device.title}",
        device.notes,
        table(["compute path", "weight:activation pairs, the first path that matches"], paths),
        f"A pair that none of them takes is widened and runs on {device.wide_path}.",
        table(["figure", "value", "kind", "source"], figures, right=(1,)),
    ]
    for assumption in device.assumptions:
        rows = [[key, f"{figure.value:.6g}", figure.source] for key, figure in assumption.figures.items()]
        parts.append(f"--assume {assumption.name}: {assumption.says}\n{table(None, rows, right=(1,))}")
    return "\n\n".join(part for part in parts if part)
