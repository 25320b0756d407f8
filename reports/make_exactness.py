"""Runs the exactness checks and writes reports/exactness.md: how much was compared, with what, and what differed.

    python -m reports.make_exactness                      minutes
    python -m reports.make_exactness --exhaustive         all float32 patterns too, about an hour
    python -m reports.make_exactness --sections elements scales --output -

The ONNX vectors and checkpoints need MXSIM_SHARED_DATA. Exits 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from tests.exactness import (
    bulk,
    checkpoints,
    conversion,
    elements,
    onnx_vectors,
    policies,
    scales,
)
from tests.exactness.comparison import Comparison, merged
from tests.oracles.conversion import BLOCK_FORMATS
from tests.oracles.numbers import ROUNDINGS

ROOT = Path(__file__).parent.parent
PACKAGES = ("numpy", "numba", "ml_dtypes", "gfloat", "onnx")


def element_rows() -> Iterator[Comparison]:
    for name in (*elements.ENCODED, "e8m0"):
        yield from elements.decode_comparisons(name)


def encode_rows() -> Iterator[Comparison]:
    for name in elements.ENCODED:
        yield from elements.encode_sampled(name)


def exhaustive_rows() -> Iterator[Comparison]:
    for name in elements.ENCODED:
        for rounding in ROUNDINGS:
            yield from elements.encode_exhaustive(name, rounding)


def conversion_rows() -> Iterator[Comparison]:
    for name in BLOCK_FORMATS:
        for rounding in conversion.ROUNDINGS:
            yield from merged(f"{name} {rounding}", conversion.format_comparisons(name, rounding))
        yield from merged(f"{name} axes, strides, block sizes", conversion.shape_comparisons(name))
        yield from conversion.decode_comparisons(name)
        if name != "nvfp4":
            yield from merged(f"{name}, a million elements", bulk.comparisons(name))


def shared_rows(folder: str, comparisons: Callable[[Path], Iterator[Comparison]]) -> Callable[[], Iterator[Comparison]]:
    """Rows that need a folder of the data that does not ship with the project; none where it is not at hand."""

    def rows() -> Iterator[Comparison]:
        if data := os.environ.get("MXSIM_SHARED_DATA"):
            yield from comparisons(Path(data) / folder)

    return rows


SECTIONS: dict[str, tuple[str, Callable[[], Iterator[Comparison]]]] = {
    "elements": ("Elements: every code decoded", element_rows),
    "encode": ("Encode: sampled float32 patterns, saturating", encode_rows),
    "exhaustive": ("Encode: all 2^32 float32 patterns", exhaustive_rows),
    "scales": ("Scales: every exponent at every decision point", scales.comparisons),
    "conversion": ("Conversion: quantize, dequantize, fake_quantize", conversion_rows),
    "policies": ("Policies: the bytes of the producers themselves", policies.comparisons),
    "onnx": ("ONNX node tests", shared_rows("onnx-vectors", onnx_vectors.comparisons)),
    "checkpoints": ("Checkpoints exported by other tools", shared_rows("checkpoints", checkpoints.comparisons)),
}


def section(title: str, rows: Iterable[Comparison]) -> tuple[str, int]:
    """A section's Markdown and its number of mismatches."""
    lines = [f"## {title}", "", "| compared | with | cases | mismatches | left out | seconds |", "|---|---|---:|---:|---:|---:|"]
    mismatches = cases = left_out = 0
    reasons: dict[str, None] = {}
    started = last = time.perf_counter()
    for row in rows:
        now = time.perf_counter()
        lines.append(f"| {row.what} | {row.reference} | {row.cases:,} | {row.mismatches:,} | {row.left_out:,} | {now - last:.1f} |")
        last, cases, mismatches, left_out = now, cases + row.cases, mismatches + row.mismatches, left_out + row.left_out
        if row.left_out:
            reasons[f"- {row.reference}: {row.why}"] = None
        if row.mismatches:
            print(f"{row.what} against {row.reference}: {row.mismatches} differ, first {row.example}", file=sys.stderr)
    if not cases:
        return f"## {title}\n\nNot run: the data is not at hand.\n", 0
    lines.append(f"| **all** | | **{cases:,}** | **{mismatches:,}** | **{left_out:,}** | **{last - started:.1f}** |")
    if reasons:
        lines += ["", "Left out:", "", *reasons]
    return "\n".join(lines) + "\n", mismatches


def recorded_exhaustive() -> str:
    """What the last full run of `make exhaustive` was, as written down beside its checks."""
    run = json.loads((ROOT / "tests" / "exactness" / "exhaustive.json").read_text(encoding="utf-8"))
    seconds = {name: sum(taken.values()) for name, taken in run["seconds"].items()}
    lines = [f"| {name} | {', '.join(run['seconds'][name])} | {taken / 60:.1f} |" for name, taken in seconds.items()]
    return (
        "## Encode: all 2^32 float32 patterns\n\n"
        f"Not run again here: the {run['passed']} tests of `{run['command']}` passed on {run['date']}, each over all 2^32 patterns of an "
        "element format under one rounding, or over all that the format spans in whole blocks under one scale (nearest even; codes and "
        f"values), in {sum(seconds.values()) / 60:.0f} minutes of one core. No pattern differed from the exact oracle, nor from ml_dtypes "
        "(nearest even, floating elements).\n\n| element | roundings, and blocks | minutes |\n|---|---|---:|\n" + "\n".join(lines) + "\n"
    )


def git_state() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    # the report itself is being rewritten: its own change says nothing about the code
    changed = [line for line in git("status", "--porcelain").splitlines() if not line.endswith("reports/exactness.md")]
    return git("rev-parse", "--short=12", "HEAD") + (" with uncommitted changes" if changed else "")


def heading(command: str) -> str:
    """Title, versions and the command."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        "# Exactness\n\n"
        f"Written by `{command}` at {git_state()}.\n"
        f"Python {platform.python_version()}, {versions}, {platform.machine()}, {os.cpu_count()} cores.\n\n"
        "A case is one code, scale or float32 value compared bit by bit (NaN equals NaN). The exact oracle\n"
        "(tests/oracles) is written in Python integers and fractions and imports nothing from mxsim.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exhaustive", action="store_true", help="encode all 2^32 float32 patterns too")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="only these")
    parser.add_argument("--output", default=str(ROOT / "reports" / "exactness.md"), help="a file, or - for stdout")
    arguments = parser.parse_args()
    wanted = arguments.sections or [name for name in SECTIONS if name != "exhaustive" or arguments.exhaustive]
    given = "".join(f" {word}" for word in sys.argv[1:])
    parts, mismatches = [heading("python -m reports.make_exactness" + given)], 0
    for name in wanted:
        print(f"{name} ...", file=sys.stderr)
        text, wrong = section(SECTIONS[name][0], SECTIONS[name][1]())
        parts.append(text)
        mismatches += wrong
    if "exhaustive" not in wanted:
        parts.append(recorded_exhaustive())
    report = "\n".join(parts)
    if arguments.output == "-":
        print(report, end="")
    else:
        Path(arguments.output).write_text(report, encoding="utf-8")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
