"""How one search went: each layer's offset, the bits and the loss, over the steps."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.frames import offsets_of
from analysis.plots.style import BLUE, RC, RED, role_style
from analysis.records import Record
from analysis.scenarios import budget_amount

LEAST_BITS = 0.1  #: span of the axis of average bits


def trajectory_plot(record: Record, steps: pd.DataFrame, title: str) -> Figure | None:
    """Offsets (weights, and activations where they differ) above bits and loss. None where the run kept none.

    Args: steps: the run's rows of Frames.trajectories.
    """
    offsets = offsets_of(record)
    if not len(offsets) and not len(steps):
        return None
    operands = distinct_operands(offsets)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(7.2, 1.8 + 2.5 * max(len(operands), 1)), layout="constrained")
        panels = figure.subplots(len(operands) + 1, 1, sharex=True, squeeze=False, height_ratios=[1.6] * len(operands) + [1])[:, 0]
        roles = list(dict.fromkeys(offsets["role"]))
        styles = {role: role_style(role, index) for index, role in enumerate(roles)}
        for axes, operand in zip(panels, operands, strict=False):
            for _, line in offsets[offsets["operand"] == operand].groupby("layer", sort=False):
                style = styles[line["role"].iloc[0]]
                axes.plot(line["step"], line["offset"], color=style.colour, dashes=style.dash or (None, None), linewidth=1, alpha=0.85)
            axes.set_ylabel("offset" if len(operands) == 1 else f"offset, {operand}s")
        if len(operands):
            handles = [Line2D([], [], color=one.colour, dashes=one.dash or (None, None), label=role) for role, one in styles.items()]
            figure.legend(handles=handles, loc="outside right upper")
        low = panels[-1]
        if "bits" in steps and steps["bits"].notna().any():
            low.plot(steps["step"], steps["bits"], color=BLUE, label="bits")
            target = record.specification.get("budget") or {}
            if target.get("kind") == "bits":
                low.axhline(budget_amount(target), color=BLUE, linestyle=":", linewidth=1)
            low.set_ylabel("average bits (solid)")
            bottom, top = low.get_ylim()
            if top - bottom < LEAST_BITS:  # or what rounding leaves would look like a slope
                low.set_ylim((bottom + top - LEAST_BITS) / 2, (bottom + top + LEAST_BITS) / 2)
            low.ticklabel_format(axis="y", useOffset=False)
        if "loss" in steps and steps["loss"].notna().any():
            right = low.twinx()
            right.plot(steps["step"], steps["loss"], color=RED, dashes=(4, 2))
            right.set_ylabel("loss (dashed)")
            right.ticklabel_format(axis="y", useOffset=False)
            right.grid(visible=False)
            right.spines["right"].set_visible(True)
        low.set_xlabel("step")
        panels[0].set_title(title, loc="left")
    return figure


def distinct_operands(offsets: pd.DataFrame) -> list[str]:
    """weight, activation: both where their offsets differ, weight alone where they are tied."""
    if not len(offsets):
        return []
    operands = list(dict.fromkeys(offsets["operand"]))
    wide = offsets.pivot_table(index=["layer", "step"], columns="operand", values="offset")
    if len(operands) == 2 and (wide[operands[0]] - wide[operands[1]]).abs().max() == 0:
        return operands[:1]
    return operands
