"""`python -m reports.make_search`: reports/search.md from what reports/records holds.

Every number is read from records that `dmx sweep` wrote and reports.archive kept, or from a table that a script beside this one wrote
there; the commands are those that records and tables themselves name.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from pathlib import Path

from analysis.names import COSTS, KL, PERPLEXITY, Metric
from analysis.records import Record, Results, read_results
from analysis.summary import analyse
from benchmarks.timing import markdown
from mxsim.files import renamed_when_whole
from reports import tables
from reports.archive import RECORDS, SUFFIX, unpacked

REPORT = Path(__file__).parent / "search.md"
OURS = "dmx"
NEAR = 0.005  #: a method is as good as the best where its median lies within this share

PICTURED = ["mxfp4_e2m1", "mxfp8_e4m3"]  #: the ladder whose front lies beside the report

HEAD = """# The search against its baselines

Made by `python -m reports.make_search` from the records of the sweeps below, kept in [records](records); each record holds its own
specification, hashes and versions.
Perplexity: non-overlapping windows, no special tokens, the first token of each window not scored. Every method has the same model, search
text, number of tokens, choices (weight and input formats apart, except where said) and budget, an upper bound that none exceeds. Median
over seeds, the range in brackets where there are several: a seed draws a baseline's windows from the text, and dMX's batches from
windows that are evenly spread over it. `first_order` is AutoScheme's form, `fisher`
ModelOpt's, `kl` the paper's baseline; `dmx_paper` is the published method without its learned rotations.
"""
#: Written by hand at the end of the report, and kept.
BY_HAND = "## What is not here"


def budget_of(record: Record) -> str:
    budget = record.specification["budget"]
    return str(budget["text"]) if budget else ""


def value(record: Record) -> float:
    return float(record.quality["perplexity"])


def section(results: Results) -> str:
    """One sweep: references, then budgets by methods."""
    records = results.records
    first = records[0]
    texts = first.specification["text"]
    settings = first.specification["settings"]
    tokens = first.quality["tokens"]
    kinds = sorted({kind_of(r) for r in records if budget_of(r)}, key=lambda kind: (kind != "bits", kind))
    budgets = "" if "bits" in kinds else f", budgets in {', '.join(kinds)}"
    lines = [f"## {first.model}: {', '.join(ladder(records))}{budgets}\n"]
    lines.append(
        f"Search text {texts['search']['name']} ({settings['tokens']} tokens), report text {texts['report']['name']} "
        f"({tokens} tokens scored). "
        f"{'Commands' if len(commands(records)) > 1 else 'Command'}: {', then '.join(f'`{c}`' for c in commands(records))}.\n"
    )
    unlimited = {(r.method, *r.specification["formats"]): r for r in records if not budget_of(r)}  # once, whatever seeds were swept after
    references = sorted(unlimited.values(), key=lambda r: -(r.achieved["bits"] or 0))
    rows = [[r.method, "/".join(r.specification["formats"]) or "float32", f"{value(r):.4f}"] for r in references]
    lines += [markdown(["reference", "format", "perplexity"], rows), ""]
    picture = REPORT.with_name(f"front_{first.model}.svg")
    if picture.exists() and ladder(records) == PICTURED and "bits" in kinds:
        folder = commands(records)[0].split()[-1]
        lines.append(f"![Perplexity against average bits]({picture.name})\n\nDrawn by `python -m analysis pareto {folder}`.\n")
    for kind in kinds:
        lines.append(comparison(results.with_records(r for r in records if kind_of(r) in ("", kind)), kind))
    for problem in results.problems:
        lines.append(f"- not used: {problem}")
    return "\n".join(lines)


def kind_of(record: Record) -> str:
    """Of its budget: bits, bytes, energy or latency; nothing where it had none."""
    return budget_of(record).partition("=")[0]


def comparison(results: Results, kind: str) -> str:
    """Budgets of one kind by methods, and the hypervolumes: in every plane for budgets of bits, else in those of the budget's own cost."""
    by_budget: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in results.records:
        if budget_of(record):
            by_budget[budget_of(record)][record.method].append(record)
    methods = sorted({m for found in by_budget.values() for m in found}, key=lambda m: (m != OURS, m))
    table, wins, within, compared, worst = [], 0, 0, 0, 0.0
    for budget, found in sorted(by_budget.items(), key=lambda item: float(item[0].partition("=")[2].rstrip("x"))):
        medians = {m: statistics.median(map(value, found[m])) for m in methods if found[m]}
        best = min(medians.values())
        table.append([budget, *(cell(found[m], best) for m in methods)])
        if OURS in medians:
            compared += 1
            wins += medians[OURS] <= best
            gap = medians[OURS] / best - 1
            within += gap <= NEAR
            worst = max(worst, gap)
    lines = [markdown(["budget", *methods], table), ""]
    if OURS in methods:
        lines.append(
            f"dMX is lowest (ties counted) at {wins} of {compared} budgets, within 0.5 % of the lowest at {within}, "
            f"{100 * worst:.2f} % above it at worst.\n"
        )
    return "\n".join([*lines, areas(results, [cost for cost in COSTS if kind in ("bits", cost.short)])])


def ladder(records: tuple[Record, ...]) -> list[str]:
    return next((list(r.specification["formats"]) for r in records if budget_of(r)), [])


def commands(records: tuple[Record, ...]) -> list[str]:
    """Those that made the records, each once, in the order they were given in."""
    began: dict[str, float] = {}
    for record in records:
        command = record.environment["command"]
        began[command] = min(record.path.stat().st_mtime, began.get(command, math.inf))
    return sorted(began, key=lambda command: began[command])


def areas(results: Results, costs: list[Metric]) -> str:
    """Each method's hypervolume in the planes of these costs, as a share of the box between uniform formats and the float model."""
    found = analyse(results).hypervolumes
    found = found[found["budgets"] > 1]
    if found.empty:
        return ""
    planes = [(quality, cost) for quality in (PERPLEXITY, KL) for cost in costs]
    methods = sorted(set(found["method"]), key=lambda m: (m != OURS, m))
    rows = []
    for quality, cost in planes:
        plane = found[(found["quality"] == quality.column) & (found["cost"] == cost.column)].set_index("method")["share"]
        if not plane.empty:
            shares = [f"{plane[m]:.3f}" if m in plane.index else "-" for m in methods]
            best = f"{plane.max():.3f}"
            rows.append([f"{quality.short} by {cost.short}", *(f"**{s}**" if s == best else s for s in shares)])
    return (
        "Hypervolume, as a share of the box between the uniform formats and the float model:\n\n"
        + markdown(["plane", *methods], rows)
        + "\n"
    )


def cell(records: list[Record], best: float) -> str:
    if not records:
        return "-"
    values = sorted(map(value, records))
    middle = statistics.median(values)
    text = f"{middle:.4f}" if len(values) == 1 else f"{middle:.4f} ({values[0]:.4f}-{values[-1]:.4f})"
    return f"**{text}**" if middle <= best else text


def main() -> None:
    parts = [HEAD]
    for archive in sorted(RECORDS.glob(f"*{SUFFIX}"), key=lambda path: path.name.removesuffix(SUFFIX)):
        with unpacked(archive) as records:
            parts.append(section(read_results(records)))
    parts += [tables.section(path) for path in sorted(RECORDS.glob("*.json"))]
    before = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    if BY_HAND in before:
        parts.append(before[before.index(BY_HAND) :])
    with renamed_when_whole(REPORT) as part:
        part.write_text("\n".join(parts), encoding="utf-8")
    print(REPORT.name)


if __name__ == "__main__":
    main()
