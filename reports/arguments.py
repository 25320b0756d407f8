"""What the scripts that look at a sweep's assignments again ask for, and which assignments that names."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.records import Record, read_results


def sweep_parser(about: str | None) -> argparse.ArgumentParser:
    """A sweep, its model, the text to report on, and where the table goes."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("sweep")
    parser.add_argument("--model", help="the sweep's; left out, the embedded model")
    parser.add_argument("--text", help="reported on; left out, the embedded model's own")
    parser.add_argument("--part", default="all", help="all, first or second: the half of the text")
    parser.add_argument("--window", type=int)
    parser.add_argument("-o", "--output", required=True, type=Path)
    return parser


def add_tokens(parser: argparse.ArgumentParser) -> None:
    about = "of the embedded model's report text, at least: it goes on for as long as one likes; left out, what dmx sweep reports on"
    parser.add_argument("--tokens", type=int, help=about)


def add_budgets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--budgets", help="with commas between; left out, all of the sweep's")


def found_by_dmx(sweep: str, budgets: str | None) -> list[Record]:
    """The runs of dMX's first seed at these budgets, by their bits."""
    records = [r for r in read_results(sweep).records if r.method == "dmx" and r.specification["seed"] == 0]
    if budgets:
        records = [r for r in records if r.specification["budget"]["text"] in budgets.split(",")]
    return sorted(records, key=lambda r: r.achieved["bits"] or 0)
