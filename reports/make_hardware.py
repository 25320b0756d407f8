"""Writes reports/hardware.md, reports/hardware/hardware.json and its figure: what a bit of accumulator, alignment or scale buys.

Every point is the embedded model's perplexity on its own text, its linears computed bit for bit by a variant of a matrix unit, or converted
by a variant of the OCP policy and multiplied in float32.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mxsim
from analysis.experiments import VARIED, read_experiments
from analysis.plots.cost import save
from analysis.plots.hardware import hardware_plot
from dmx.evaluation import evaluate, logits_of, report_text
from dmx.models import LoadedModel, load_model
from dmx.text import TokenText
from dmx.unit_linear import apply_unit
from mxsim.assignment import Assignment
from mxsim.costing import cost
from mxsim.devices import Figure, load_device
from mxsim.units.spec import MatmulUnit

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = 8
FORMATS = ("mxfp8_e4m3", "mxfp4_e2m1")
PATH = "mxf8f6f4"  #: Blackwell's path for pairs of MX formats: chunks of 32 products aligned and truncated, one scale a chunk
NARROW = 10  #: significand bits behind the point, where promotion matters; half as many, where rounding does
FURTHER = 2  #: bits that an accumulator is aligned beyond its own, as Blackwell's 23 and 25 are
ALSO = {"accumulator_bits": ", and the alignment with it", "scale_rule": ", no unit", "block_size": ", no unit"}  #: in the headings
DEVICE = "zigzag_tpu_like"  #: the one device file whose buffer counts the accumulator's bits
ENERGY_SOURCE = (
    f"mxsim cost on {DEVICE}, decode of one token: accumulator bits written and read once an output, scale bits of the weights read from "
    "memory; no figure is known for what alignment, rounding or promotion cost"
)


def unit(title: str, **changes: Any) -> MatmulUnit:
    """Blackwell's MX path for every pair, with some of its fields changed."""
    base = mxsim.UNITS["nvidia_blackwell"]
    path = next(path for path in base.paths if path.name == PATH and path.out == "fp32")
    return replace(base, name=title, title=title, paths=(replace(path, vectors=(), level=mxsim.UNITS["mx_exact"].level, **changes),))


def narrow(mode: str = "rz", bits: int = NARROW) -> dict[str, Any]:
    """An accumulator of so many fraction bits, and the alignment that goes with it."""
    return {"step": f"{mode}_e8m{bits}", "F": bits + FURTHER}


def narrowed(bits: int) -> str:
    return f"mxf8f6f4, {bits + 1} significand bits, alignment {bits + FURTHER}"


def unit_points(model: LoadedModel, text: TokenText) -> Iterator[dict[str, Any]]:
    """Perplexity over accumulator width, alignment, promotion and rounding."""
    cases: list[tuple[str, Any, str, dict[str, Any]]] = []
    blackwell, half = "nvidia_blackwell, mxf8f6f4", NARROW // 2
    further = f"{blackwell}, aligned {FURTHER} bits further"
    cases += [("accumulator_bits", bits + 1, further, narrow(bits=bits)) for bits in (3, 4, 5, 6, 8, 10, 13, 16, 23)]
    cases += [("alignment_bits", bits, blackwell, {"F": bits}) for bits in (2, 3, 4, 6, 8, 12, 16, 25)]
    cases += [("promotion_interval", every, narrowed(NARROW), {**narrow(), "promote_every": every}) for every in (32, 64, 96, 288)]
    cases += [("rounding", mode, narrowed(half), narrow(mode, half)) for mode in ("rz", "rne", "rto")]
    names = {"rz": "toward zero", "rne": "nearest even", "rto": "to odd"}
    for vary, value, base, changes in cases:
        for format in FORMATS:
            assignment = Assignment.uniform(model.linears, format)
            with apply_unit(model, assignment, unit(f"{base}, {vary} {value}", **changes)):
                perplexity = perplexity_of(model.module, text)
            energy = step_energy_pj(model, format, accumulator_bits=8 + value) if vary == "accumulator_bits" else None
            yield point(vary, names.get(str(value), value), base, format, perplexity, text, energy)


def conversion_points(model: LoadedModel, text: TokenText) -> Iterator[dict[str, Any]]:
    """Perplexity over scale rule and block size."""
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("scale_rule", rule, {"scale_rule": rule}) for rule in ("floor", "ceil", "rceil", "even")
    ]
    cases += [("block_size", size, {"block_size": size}) for size in (8, 16, 32, 64, 96)]
    for vary, value, options in cases:
        for format in FORMATS:
            with converted(model, format, options):
                perplexity = perplexity_of(model.module, text)
            energy = step_energy_pj(model, format, block_size=value) if vary == "block_size" else step_energy_pj(model, format)
            yield point(vary, value, "policy ocp, no unit", format, perplexity, text, energy)


@contextmanager
def converted(model: LoadedModel, format: str, options: dict[str, Any]) -> Iterator[None]:
    """Linears whose weights and inputs are converted with options that no policy's name has."""

    def fake(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(mxsim.fake_quantize(x.detach().float().numpy(), format, **options)).to(x.dtype)

    weights = {linear: linear.weight.data for linear in model.linears.values()}
    hooks = []
    for linear in weights:
        linear.weight.data = fake(linear.weight)
        hooks.append(linear.register_forward_pre_hook(lambda _, inputs: (fake(inputs[0]),)))
    try:
        yield
    finally:
        for linear, weight in weights.items():
            linear.weight.data = weight
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def perplexity_of(module: nn.Module, text: TokenText) -> float:
    logs = torch.log_softmax(logits_of(module, text.windows)[:, :-1].float(), -1)
    loss = -logs.gather(-1, text.windows[:, 1:, None]).double().sum()
    return math.exp(float(loss) / text.scored_tokens)


def step_energy_pj(model: LoadedModel, format: str, *, accumulator_bits: int | None = None, block_size: int = 32) -> float | None:
    """Energy of one decoded token, with another accumulator or other blocks than the device's and the format's."""
    device = load_device(DEVICE)
    if accumulator_bits is not None:
        device = device.with_figure("buffer.accumulator_bits", Figure(value=accumulator_bits, kind="assumed", source="varied here"))
    if model.shape is None:
        return None
    total = cost(model.shape, device, format, context=256).totals["energy_pj"]
    per_bit = device.memory.energy_pj_per_bit
    if total is None or per_bit is None:
        return None
    weights = sum(linear.weight.numel() for linear in model.linears.values())
    return float(total + per_bit.value * 8 * weights * (1 / block_size - 1 / 32))


def point(vary: str, value: Any, base: str, format: str, perplexity: float, text: TokenText, energy_pj: float | None) -> dict[str, Any]:
    print(f"{vary} {value}, {format}: {perplexity:.5g}", file=sys.stderr)
    numbers = {"perplexity": perplexity, "kl_to_float": None, "tokens": text.scored_tokens, "energy_pj": energy_pj}
    return {"vary": vary, "value": value, "base": base, "format": format, **numbers}


def tables(points: list[dict[str, Any]]) -> Iterator[str]:
    """A table a property: formats across."""
    for vary, (title, _) in VARIED.items():
        own = [one for one in points if one["vary"] == vary]
        yield f"## {title[0].upper()}{title[1:]}{ALSO.get(vary, '')}\n\n{own[0]['base']}\n"
        yield (
            f"| {vary} | " + " | ".join(f"{name}: perplexity | energy, µJ" for name in FORMATS) + " |\n|" + "---|" * (1 + 2 * len(FORMATS))
        )
        for value in dict.fromkeys(one["value"] for one in own):
            cells = []
            for name in FORMATS:
                one = next(other for other in own if other["value"] == value and other["format"] == name)
                cells += [f"{one['perplexity']:.4f}", "-" if one["energy_pj"] is None else f"{one['energy_pj'] / 1e6:.3f}"]
            yield f"| {value} | {' | '.join(cells)} |"
        yield ""


def main() -> None:
    """Measure (two minutes on one core), then write."""
    model = load_model(None)
    text = report_text(model, None).first(WINDOWS)
    wide = evaluate(model, text=text)["perplexity"]
    points = [*unit_points(model, text), *conversion_points(model, text)]
    write(
        {
            "schema": 1,
            "model": {"name": model.name, "sha256": model.sha256},
            "text": {"name": text.name, "sha256": text.sha256},
            "float_perplexity": wide,
            "energy_source": ENERGY_SOURCE,
            "experiments": points,
        }
    )
    print("reports/hardware.md")


def write(content: dict[str, Any]) -> None:
    """The table of points as JSON, its figure, and the report. Args: content: as analysis.experiments describes it."""
    points = content["experiments"]
    folder = ROOT / "reports" / "hardware"
    folder.mkdir(exist_ok=True)
    (folder / "hardware.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (experiments,), problems = read_experiments(folder)
    assert not problems
    figure = hardware_plot(experiments)
    assert figure is not None
    save(figure, folder / "hardware", ("svg",))
    head = f"""# What the hardware's bits buy

Made by `python -m reports.make_hardware`: the {content["model"]["name"]} model on {points[0]["tokens"]} tokens of its own text, float
perplexity {content["float_perplexity"]:.4f}. In the first four tables every linear is computed bit for bit by the unit named. Alignment is
varied by itself, under the whole accumulator; an accumulator of other bits is aligned {FURTHER} bits beyond its own, as Blackwell's 23 and
25 are, so that its alignment changes with it. In the last two, weights and inputs are converted, and multiplied in float32 by no unit.
So few tokens tell apart what matters from what does not, no more: MXFP4's perplexity scatters by some hundredths wherever an
accumulator's last bits move an input across a rounding.

Energy: {content["energy_source"]}.

![perplexity and energy over each property](hardware/hardware.svg)
"""
    (ROOT / "reports" / "hardware.md").write_text("\n".join([head, *tables(points)]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
