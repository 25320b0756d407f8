"""`python -m reports.make_search`: reports/search.md from what reports/records holds.

Every number is read from records that `dmx sweep` wrote and reports.archive kept, or from a table that a script beside this one wrote
there; a table names its own command, and reports.commands says which make a folder's records again.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from analysis.frames import frames_of
from analysis.names import COSTS, KL, METHOD_ORDER, OWN_METHODS, PERPLEXITY, REFERENCES, Metric
from analysis.pareto import hypervolume, points_table, reference_box
from analysis.records import Record, Results, read_results
from benchmarks.timing import markdown
from mxsim.files import renamed_when_whole
from reports import tables
from reports.archive import RECORDS, SUFFIX, unpacked
from reports.commands import commands

REPORT = Path(__file__).parent / "search.md"
OURS = {PERPLEXITY: "dmx", KL: "dmx_kl"}  #: quality -> our search for it
NEAR = 0.005  #: a method is as good as the best where its median lies within this share

PICTURED = ["mxfp4_e2m1", "mxfp8_e4m3"]  #: the ladder whose front lies beside the report

HEAD = """# The search against its baselines

Made by `python -m reports.make_search` from the records of the sweeps below, kept in [records](records); each record holds its own
specification, hashes, versions and the command it came from; the commands shown make the same in fewer parts.
Perplexity: non-overlapping windows, no special tokens, the first token of each window not scored. Every method has the same model, search
text, number of tokens (but where the commands tell another), choices (weight and input formats apart, except where said) and budget, an
upper bound that none exceeds. Median over seeds, the range in brackets where there are several: a seed draws a baseline's windows from
the text, and dMX's batches from windows that are evenly spread over it. `dmx` minimises KL to the float model and, of what next-token loss
says beyond it, the share that is more than chance on the search text; `dmx_kl` (`--preset kl`) KL alone. `first_order` is AutoScheme's
form, `fisher` ModelOpt's, `kl` the paper's baseline. The published method without its learned rotations (`--preset paper`) stands in the
table of single changes. Budgets in bits count scales out, as a plain mean over linears; planes by bits have scales in.
"""
#: Written by hand at the end of the report, and kept.
BY_HAND = "## What is not here"


def budget_of(record: Record) -> str:
    budget = record.specification["budget"]
    return str(budget["text"]) if budget else ""


def section(results: Results, name: str) -> str:
    """One sweep: references, then budgets by methods."""
    records = results.records
    asked = commands(records, name)
    first = records[0]
    texts = first.specification["text"]
    searched = sorted({r.specification["settings"]["tokens"] for r in records if budget_of(r)})
    device = first.specification["settings"]["scenario"]["device"]
    kinds = sorted({kind_of(r) for r in records if budget_of(r)}, key=lambda kind: (kind != "bits", kind))
    budgets = "" if "bits" in kinds else f", budgets in {', '.join(kinds)}{f' on {device}' if device else ''}"
    lines = [f"## {first.model}: {', '.join(ladder(records))}{budgets}\n"]
    lines.append(
        f"Search text {texts['search']['name']} ({' or '.join(map(str, searched))} tokens), "
        f"report text {texts['report']['name']} ({first.quality['tokens']} tokens scored). "
        f"{'Command' if len(asked) == 1 else 'Commands'}:\n\n{chr(10).join(['```', *asked, '```'])}\n"
    )
    scored_by = sorted({r.environment["scored_by"] for r in records if "scored_by" in r.environment})
    if scored_by:
        lines.append(f"What they found was then scored on the whole report text by {' and '.join(f'`{c}`' for c in scored_by)}.\n")
    lines.append(f"Versions of the code, by its hash: {versions(records)}.\n")
    unlimited = {(r.method, *r.specification["formats"]): r for r in records if not budget_of(r)}  # once, whatever seeds were swept after
    references = sorted(unlimited.values(), key=lambda r: -(r.achieved["bits"] or 0))
    rows = [
        [r.method, "/".join(r.specification["formats"]) or "float32", f"{value(r, PERPLEXITY):.4f}", f"{value(r, KL):.5f}"]
        for r in references
    ]
    lines += [markdown(["reference", "format", "perplexity", "KL to float"], rows), ""]
    picture = REPORT.with_name(f"front_{first.model}.svg")
    if picture.exists() and ladder(records) == PICTURED and "bits" in kinds:
        drawn = f"Drawn by `python -m analysis pareto {name}` from the records at budgets of bits."
        lines.append(f"![Perplexity against average bits]({picture.name})\n\n{drawn}\n")
    for kind in kinds:
        lines.append(comparison([r for r in records if kind_of(r) == kind]))
    lines.append(areas(results, kinds))
    for problem in results.problems:
        lines.append(f"- not used: {problem}")
    return "\n".join(lines)


def versions(records: tuple[Record, ...]) -> str:
    """Which code made what: methods, under each kind of budget."""
    made: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        if budget_of(record):
            made[record.specification["code"]["sha256"][:6]][kind_of(record)].add(record.method)
    return "; ".join(
        f"`{code}` "
        + ", ".join(f"{' '.join(sorted(methods, key=METHOD_ORDER.index))} ({kind})" for kind, methods in sorted(by_kind.items()))
        for code, by_kind in sorted(made.items())
    )


def kind_of(record: Record) -> str:
    """Of its budget: bits, bytes, energy or latency; nothing where it had none."""
    return budget_of(record).partition("=")[0]


def value(record: Record, quality: Metric) -> float:
    return float(record.quality[quality.column])


def comparison(records: list[Record]) -> str:
    """Budgets of one kind by methods, for each quality that we search for."""
    by_budget: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        by_budget[budget_of(record)][record.method].append(record)
    by_budget = dict(sorted(by_budget.items(), key=lambda item: float(item[0].partition("=")[2].rstrip("x"))))
    methods = sorted({m for found in by_budget.values() for m in found}, key=METHOD_ORDER.index)
    return "\n".join(budgets_by_methods(by_budget, methods, quality) for quality, ours in OURS.items() if ours in methods)


def budgets_by_methods(by_budget: Mapping[str, Mapping[str, list[Record]]], methods: list[str], quality: Metric) -> str:
    """Medians of a quality, and how our search for it stands among the baselines."""
    ours = OURS[quality]
    table, wins, within, compared, worst = [], 0, 0, 0, 0.0
    for budget, found in by_budget.items():
        medians = {m: statistics.median(value(r, quality) for r in found[m]) for m in methods if found.get(m)}
        table.append([budget, *(cell([value(r, quality) for r in found.get(m, [])], min(medians.values()), quality) for m in methods)])
        baselines = [median for m, median in medians.items() if m not in OWN_METHODS]
        if ours in medians and baselines:
            compared += 1
            wins += medians[ours] <= min(baselines)
            gap = medians[ours] / min(medians[ours], *baselines) - 1
            within += gap <= NEAR
            worst = max(worst, gap)
    told = f"{quality.title[0].upper()}{quality.title[1:]}:\n\n{markdown(['budget', *methods], table)}\n"
    if compared:
        told += (
            f"\n`{ours}` is not above any baseline at {wins} of {compared} budgets, within 0.5 % of the lowest baseline at {within}, "
            f"{100 * worst:.2f} % above it at worst.\n"
        )
    return told


def ladder(records: tuple[Record, ...]) -> list[str]:
    return next((list(r.specification["formats"]) for r in records if budget_of(r)), [])


def areas(results: Results, kinds: list[str]) -> str:
    """Each method's hypervolume, as a share of the box between uniform formats and the float model: of all that it found, whatever kind of
    budget it was given. In every plane where budgets of bits are among them, else in those of the budgets' own costs. Methods that were
    not given every budget are left out."""
    costs = [cost for cost in COSTS if "bits" in kinds or cost.short in kinds]
    frames = frames_of(results)
    points = points_table(frames, [metric.column for metric in (*OURS, *costs)])
    budgets = points[~points["method"].isin(REFERENCES)].groupby("method").size()
    methods = sorted(budgets.index[budgets == budgets.max()], key=METHOD_ORDER.index)
    rows = []
    for quality, cost in product(OURS, costs):
        box = reference_box(frames, cost, quality)
        if box is None or not methods:
            continue
        fronts = {m: points.loc[points["method"] == m, [cost.column, quality.column]].to_numpy(float) for m in methods}
        shares = {m: float(hypervolume(found, box.reference)) / box.area for m, found in fronts.items()}
        best = f"{max(shares.values()):.3f}"
        written = [f"{shares[m]:.3f}" for m in methods]
        rows.append([f"{quality.short} by {cost.short}", *(f"**{s}**" if s == best else s for s in written)])
    if not rows:
        return ""
    return (
        "Hypervolume of each method's front over all of these budgets, as a share of the box between the uniform formats and the float "
        f"model:\n\n{markdown(['plane', *methods], rows)}\n"
    )


def cell(values: list[float], best: float, quality: Metric) -> str:
    if not values:
        return "-"
    digits = 4 if quality is PERPLEXITY else 5
    middle = statistics.median(values)
    text = f"{middle:.{digits}f}" if len(values) == 1 else f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
    return f"**{text}**" if middle <= best else text


def report() -> str:
    """The whole text: sections from the records, tables as they were measured, and the old text's last section, which is by hand."""
    parts = [HEAD]
    for archive in sorted(RECORDS.glob(f"*{SUFFIX}"), key=lambda path: path.name.removesuffix(SUFFIX)):
        with unpacked(archive) as records:
            parts.append(section(read_results(records), records.name))
    parts += [tables.section(path) for path in sorted(RECORDS.glob("*.json"))]
    before = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    if BY_HAND in before:
        parts.append(before[before.index(BY_HAND) :])
    return "\n".join(parts)


def main() -> None:
    text = report()
    with renamed_when_whole(REPORT) as part:
        part.write_text(text, encoding="utf-8")
    print(REPORT.name)


if __name__ == "__main__":
    main()
