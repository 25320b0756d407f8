"""What the scripts that look at a sweep's assignments again ask for."""

from __future__ import annotations

import argparse
from pathlib import Path


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
