"""What every figure shares: Okabe and Ito's colours, which stay apart under every colour blindness, a marker and a dash for each method.

Markers and dashes alone tell the methods apart in grey. `dark` is the colour on a dark page.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#666666"

First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one series is drawn."""

    colour: str
    dark: str
    marker: str  #: in matplotlib's letters
    dash: tuple[int, ...]  #: on, off, ... in points; empty is solid
    width: float = 1.4
    hollow: bool = False


STYLES = {
    "dmx": Style(colour=BLUE, dark="#5BA8E0", marker="o", dash=(), width=2.2),
    "dmx_kl": Style(colour="#00796B", dark="#4DB6AC", marker="p", dash=(5, 1)),
    "dmx_paper": Style(colour=SKY, dark="#8FD0F5", marker="s", dash=(6, 2)),
    "kl": Style(colour=RED, dark="#F0803C", marker="^", dash=(4, 2)),
    "kl_per_bit": Style(colour=ORANGE, dark="#F0B93A", marker="v", dash=(1, 2)),
    "first_order": Style(colour=GREEN, dark="#35C498", marker="D", dash=(7, 2, 1, 2)),
    "fisher": Style(colour=PURPLE, dark="#E29CC2", marker="P", dash=(3, 1, 1, 1, 1, 1)),
    "first_last": Style(colour=GREY, dark="#A0A0A0", marker="X", dash=(2, 2)),
    "uniform_fit": Style(colour="#222222", dark="#DDDDDD", marker="h", dash=(1, 4), width=1.0),
    "uniform": Style(colour="#222222", dark="#DDDDDD", marker="*", dash=()),
    "float": Style(colour="#222222", dark="#DDDDDD", marker="", dash=(5, 3), width=1.0),
}

#: formats by their bits: light to dark, so that a map reads in grey; each with the colour of text upon it
FORMAT_SHADES = {4: ("#DCE9F5", "#10202E"), 6: ("#6FA8D6", "#10202E"), 8: ("#0B4F8A", "#FFFFFF"), 16: ("#1A1A1A", "#FFFFFF")}
#: the same on a dark page, dark to light
DARK_SHADES = {4: "#24323F", 6: "#3F78A8", 8: "#9CCDF4", 16: "#F4F4F4"}

#: roles of a block, in the order in which a token meets them
ROLE_STYLES = {
    "q_proj": Style(colour=BLUE, dark="#5BA8E0", marker="", dash=()),
    "k_proj": Style(colour=SKY, dark="#9AD6FA", marker="", dash=(5, 3)),
    "v_proj": Style(colour=RED, dark="#F0803C", marker="", dash=()),
    "o_proj": Style(colour="#B37B00", dark="#F0B93A", marker="", dash=(5, 3)),
    "gate_proj": Style(colour=GREEN, dark="#35C498", marker="", dash=(1, 2)),
    "up_proj": Style(colour="#B4568F", dark="#E29CC2", marker="", dash=(7, 3, 1, 3)),
    "down_proj": Style(colour="#222222", dark="#DDDDDD", marker="", dash=()),
}

#: terms of the energy
TERM_STYLES = {
    "mac": Style(colour=BLUE, dark="#5BA8E0", marker="", dash=()),
    "sram": Style(colour=GREEN, dark="#35C498", marker="", dash=()),
    "dram": Style(colour=ORANGE, dark="#F0B93A", marker="", dash=()),
    "quantise": Style(colour=PURPLE, dark="#E29CC2", marker="", dash=()),
    "static": Style(colour="#999999", dark="#7C7C7C", marker="", dash=()),
}


def styles_of(series: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """Label -> style for (label, method) pairs. A method's second series has hollow markers, later ones other widths besides."""
    found: dict[str, Style] = {}
    counts: dict[str, int] = {}
    for label, method in series:
        if label in found:
            continue
        index = counts[method] = counts.get(method, -1) + 1
        style = STYLES[method]
        found[label] = (
            style
            if index == 0
            else replace(style, hollow=index % 2 == 1, width=max(style.width - 0.4 * index, 0.6), dash=_DASHES[index % 4])
        )
    return found


_DASHES: tuple[tuple[int, ...], ...] = ((), (2, 2), (8, 3), (8, 2, 2, 2))


def looks(first: Sequence[First], second: Sequence[Second]) -> Iterator[tuple[First, Second]]:
    """Pairs without end: first in step, then shifted, so that with as many of both every pair comes before one comes again."""
    for index in itertools.count():
        yield first[index % len(first)], second[(index + index // len(first)) % len(second)]


def role_style(role: str, index: int) -> Style:
    """Colours and dash of a role; one that is not in the table takes the next of the colours. Args: index: of the role shown."""
    known = list(ROLE_STYLES.values())
    return ROLE_STYLES.get(role, replace(known[index % len(known)], dash=_DASHES[index % 4]))


def shade(bits: float) -> tuple[str, str]:
    """Cell and text colour for so many bits: the nearest of the table's."""
    return FORMAT_SHADES[min(FORMAT_SHADES, key=lambda known: abs(known - bits))]


#: matplotlib settings of every figure
RC: Any = {
    "text.parse_math": False,  # names of models and texts may hold dollars
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "lines.markersize": 5.5,
}
