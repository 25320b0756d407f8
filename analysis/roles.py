"""Which layers a search keeps at more bits, by their role in a block; and whether that is what the paper reports."""

from __future__ import annotations

import pandas as pd

from analysis.frames import Frames

#: arXiv 2606.04115: kept high most often
PAPER_HIGH = ("down_proj", "v_proj")


def role_table(frames: Frames, series: str) -> pd.DataFrame:
    """A row a role: how often its operands stand above the lowest format that the series uses.

    All seeds count; runs with nothing or everything above the lowest format say nothing about roles and are left out.

    Columns: role, cells (layer, operand and run), share_high, share_high_weight, share_high_activation, mean_bits, lift (share_high over
    that of all roles together), runs.
    """
    columns = ["role", "cells", "share_high", "share_high_weight", "share_high_activation", "mean_bits", "lift", "runs"]
    runs = frames.runs[frames.runs["series"] == series]
    layers = frames.layers[frames.layers["key"].isin(runs["key"])]
    if not len(layers):
        return pd.DataFrame(columns=columns)
    layers = layers.assign(high=(layers["bits"] > layers["bits"].min()).astype(float))
    share = layers.groupby("key")["high"].transform("mean")
    layers = layers[(share > 0) & (share < 1)]
    if not len(layers):
        return pd.DataFrame(columns=columns)
    overall = layers["high"].mean()
    rows = []
    for role, cells in layers.groupby("role", sort=False):
        by_operand = cells.groupby("operand")["high"].mean()
        rows.append(
            {
                "role": role,
                "cells": len(cells),
                "share_high": cells["high"].mean(),
                "share_high_weight": by_operand.get("weight"),
                "share_high_activation": by_operand.get("activation"),
                "mean_bits": cells["bits"].mean(),
                "lift": cells["high"].mean() / overall,
                "runs": cells["key"].nunique(),
            }
        )
    return (
        pd.DataFrame(rows, columns=columns)
        .sort_values(["share_high", "role"], ascending=[False, True], kind="stable")
        .reset_index(drop=True)
    )


def paper_claim(table: pd.DataFrame) -> str:
    """One sentence: does "down_proj and v_proj are kept high most often" hold in this table?"""
    if not len(table):
        return "No assignment mixes formats here, so nothing can be said about roles."
    told = ", ".join(f"{row.role} {100 * row.share_high:.0f} %" for row in table.itertuples())
    known = [role for role in PAPER_HIGH if role in set(table["role"])]
    if len(known) < len(PAPER_HIGH):
        absent = " or ".join(role for role in PAPER_HIGH if role not in known)
        return f"This model has no {absent}, so the paper's claim cannot be looked at. Kept high: {told}."
    first = set(table["role"].head(2))
    above = [role for role in PAPER_HIGH if table.set_index("role").loc[role, "lift"] > 1]
    if first == set(PAPER_HIGH):
        verdict = "holds here"
    elif first & set(PAPER_HIGH):
        verdict = "holds here in part"
    else:
        verdict = "does not hold here"
    both = {0: "neither is", 1: f"only {above[0] if above else ''} is", 2: "both are"}[len(above)]
    return (
        f"The paper finds down_proj and v_proj kept high most often. That {verdict}: {both} kept above the lowest format more often than "
        f"the average layer. Kept high: {told}."
    )
