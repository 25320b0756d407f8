"""Which roles a search keeps high, all budgets and seeds together."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.style import BLUE, ORANGE, RC
from analysis.roles import PAPER_HIGH


def roles_plot(table: pd.DataFrame, title: str) -> Figure | None:
    """A bar a role, from roles.role_table; weight and activation as markers where they differ. None for an empty table."""
    if not len(table):
        return None
    with matplotlib.rc_context({**RC, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(6.4, 1.1 + 0.3 * len(table)), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(table))
        hatches = ["///" if role in PAPER_HIGH else "" for role in table["role"]]
        axes.barh(places, 100 * table["share_high"], color="#C9DDF0", edgecolor=BLUE, linewidth=0.8, height=0.62, hatch=hatches)
        if not table["share_high_weight"].equals(table["share_high_activation"]):
            axes.plot(100 * table["share_high_weight"], places, "o", color=BLUE, label="weights")
            axes.plot(100 * table["share_high_activation"], places, "D", color=ORANGE, markeredgecolor="#333333", label="activations")
        average = 100 * (table["share_high"] * table["cells"]).sum() / table["cells"].sum()
        axes.axvline(average, color="#333333", linestyle="--", linewidth=1, label="all layers")
        axes.set_yticks(list(places), list(table["role"]))
        axes.invert_yaxis()
        axes.set(xlabel="kept above the lowest format, % of cases", xlim=(0, 100))
        axes.legend(loc="lower right")
        axes.set_title(f"{title}\nhatched: the paper's {' and '.join(PAPER_HIGH)}", loc="left", fontsize=9)
    return figure
