"""`mxsim validate`: is every bit of an MX checkpoint as it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.validation import Report

EXAMPLES = "Examples: mxsim validate exported/ | mxsim validate exported/ --reference original/ | mxsim validate exported/ --json"
SHOWN = 20  #: lines of what is wrong


def command(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of an MX checkpoint.")],
    reference: Annotated[Path | None, typer.Option(help="The float checkpoint that it was made of.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check an MX checkpoint's bits; exit status 0: as they should be, 1: they are not, 2: it cannot be read."""
    from tqdm import tqdm

    from mxsim.validation import validate

    with tqdm(desc="validating", unit="B", unit_scale=True, delay=2) as bar:

        def progress(what: str, count: int) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update(count)

        report = validate(checkpoint, reference, progress)
    print(json_text(report.as_json()) if as_json else text(report))
    if not report.ok:
        raise typer.Exit(1)


def text(report: Report) -> str:
    """The report for people: the verdict, what is proven and what is not, what is wrong."""
    from mxsim.verdict import MISMATCH, PROVEN, UNPROVEN

    counts = {status: sum(v.status == status for v in report.tensors) for status in (PROVEN, MISMATCH, UNPROVEN)}
    parts = [
        f"{report.checkpoint}: {report.producer} {report.version}".rstrip(),
        f"{'as it should be, as far as it could be checked' if report.ok else 'NOT as it should be'}: "
        + ", ".join(f"{count} tensors {status}" for status, count in counts.items() if count),
    ]
    if report.policy is not None:
        parts.append(f"policy: {report.policy}" + (", which explains all bits" if report.explains_all else ", the closest: it leaves some"))
    for title, lines in (("proven", report.proofs), ("not proven", report.limits)):
        if lines:
            parts.append(f"{title}:\n" + "\n".join(f"  - {line}" for line in lines))
    wrong = [v for v in report.tensors if v.status == MISMATCH]
    if wrong:
        rows = [[v.name, v.format, str(v.mismatches), v.detail] for v in wrong[:SHOWN]]
        left = f"\n... and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        parts.append(table(["tensor", "format", "mismatches", ""], rows, right=(2,)) + left)
        examples = [f"  {v.name} {example}" for v in wrong for example in v.examples][:SHOWN]
        if examples:
            parts.append("first mismatches:\n" + "\n".join(examples))
    if report.findings:
        rows = [[f.severity.value, f.where, f.says] for f in report.findings[:SHOWN]]
        left = f"\n... and {len(report.findings) - SHOWN} more" if len(report.findings) > SHOWN else ""
        parts.append(table(["finding", "where", ""], rows) + left)
    return "\n\n".join(parts)
