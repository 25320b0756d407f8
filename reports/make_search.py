"""`python -m reports.make_search`: reports/search.md from what reports/records holds.

Every number is read from records that `dmx sweep` wrote and reports.archive kept, or from a table that a script beside this one wrote
there; a table names its own command, and reports.commands says which make a folder's records again.
"""

from __future__ import annotations

import shlex
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from analysis.names import KL, METHOD_ORDER, PERPLEXITY, Metric
from analysis.records import Record, Results, read_results
from benchmarks.timing import markdown
from mxsim.files import renamed_when_whole
from reports import tables
from reports.archive import RECORDS, SUFFIX, unpacked
from reports.arguments import add_tokens, sweep_parser
from reports.commands import commands
from reports.standings import NOWHERE, OURS, Standing, budget_of, by_budget, kind_of, medians, planes, standing, value

REPORT = Path(__file__).parent / "search.md"
PICTURED = ["mxfp4_e2m1", "mxfp8_e4m3"]  #: the ladder whose front lies beside the report

HEAD = """# The search against its baselines

Made by `python -m reports.make_search` from the records of the sweeps below, kept in [records](records); each record holds its own
specification, hashes, versions and the command it came from; the commands shown make the same in fewer parts.
Perplexity: non-overlapping windows, no special tokens, the first token of each window not scored. Every method has the same model, search
text, number of tokens (but where the commands tell another), choices (weight and input formats apart, except where said) and budget, an
upper bound that none exceeds. Median over seeds, the range in brackets where there are several: a seed draws a baseline's windows from
the text, and dMX's batches from windows that are evenly spread over it. `dmx` minimises KL to the float model and, of what next-token loss
says beyond it, the share that is more than chance on the search text; `dmx_kl` (`--preset kl`) KL alone. `first_order` is AutoScheme's
form, `fisher` ModelOpt's, `kl` the paper's baseline. `dmx_paper` is the published method without its learned rotations (`--preset paper`);
more of it is in the table of single changes. Budgets in bits count scales out, as a plain mean over linears; planes by bits have scales in.
"""
GLANCE = """## At a glance

At how many budgets no method that is not ours has a lower median perplexity than `dmx`, and how far `dmx` is above the lowest of them at
worst; in how many planes (perplexity by bits, bytes, energy, latency) none has a larger hypervolume. Nothing is rounded before it is
compared.
"""
#: Written by hand at the end of the report, and kept.
BY_HAND = "## What is not here"


def section(results: Results, name: str) -> str:
    """One sweep: references, then budgets by methods."""
    records = results.records
    asked = commands(records, name)
    first = records[0]
    texts = first.specification["text"]
    searched = sorted({r.specification["settings"]["tokens"] for r in records if budget_of(r)})
    kinds = kinds_of(records)
    lines = [f"## {title(records)}\n"]
    lines.append(
        f"Search text {texts['search']['name']} ({' or '.join(map(str, searched))} tokens), "
        f"report text {texts['report']['name']} ({first.quality['tokens']} tokens scored). "
        f"{'Command' if len(asked) == 1 else 'Commands'}:\n\n{chr(10).join(['```', *asked, '```'])}\n"
    )
    scored_by = sorted({of_folder(r.environment["scored_by"], name) for r in records if "scored_by" in r.environment})
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
        drawn = "Drawn by `python -m analysis pareto` from a folder with only those of these records that have a budget in bits or none."
        lines.append(f"![Perplexity against average bits]({picture.name})\n\n{drawn}\n")
    for kind in kinds:
        lines.append(comparison(records, kind))
    lines.append(areas(results))
    for problem in results.problems:
        lines.append(f"- not used: {problem}")
    return "\n".join(lines)


def of_folder(command: str, name: str) -> str:
    """A command that scored a sweep, with the sweep's folder under the name that it has here."""
    parser = sweep_parser(None)
    add_tokens(parser)
    words = shlex.split(command)
    asked = parser.parse_args(words[words.index("reports.rescore") + 1 :])
    return shlex.join(name if word in (asked.sweep, str(asked.output)) else word for word in words)


def kinds_of(records: Iterable[Record]) -> list[str]:
    """The kinds of budgets, bits first."""
    return sorted({kind_of(record) for record in records if budget_of(record)}, key=lambda kind: (kind != "bits", kind))


def title(records: tuple[Record, ...]) -> str:
    """The model, its ladder, and what budgets were in where none was in bits."""
    kinds, device = kinds_of(records), records[0].specification["settings"]["scenario"]["device"]
    budgets = "" if "bits" in kinds else f", budgets in {', '.join(kinds)}{f' on {device}' if device else ''}"
    return f"{records[0].model}: {', '.join(ladder(records))}{budgets}"


def glance(sweeps: Iterable[Results]) -> str:
    """How `dmx` stands in perplexity, a row for each sweep and one for all."""
    rows, sums = [], [NOWHERE, NOWHERE]
    largest = drawn = 0
    for results in sweeps:
        in_bits = by_budget(record for record in results.records if kind_of(record) == "bits")
        in_costs = by_budget(record for record in results.records if kind_of(record) != "bits")
        stands = [standing(budgets, PERPLEXITY) for budgets in (in_bits, in_costs)]
        sums = [total + one for total, one in zip(sums, stands, strict=True)]
        found = [plane.is_ours_largest for plane in planes(results) if plane.quality is PERPLEXITY]
        largest, drawn = largest + sum(found), drawn + len(found)
        rows.append([title(results.records), *map(stood, stands), f"{sum(found)} of {len(found)}"])
    rows.append(["all", *map(stood, sums), f"{largest} of {drawn}"])
    return f"{GLANCE}\n{markdown(['sweep', 'budgets in bits', 'budgets in bytes, energy, latency', 'planes'], rows)}\n"


def stood(stands: Standing) -> str:
    if not stands.budgets:
        return "-"
    worst = f", else at most {100 * stands.worst:.3f} % above" if stands.worst else ""
    return f"{stands.lowest} of {stands.budgets}{worst}"


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


def comparison(records: Iterable[Record], kind: str) -> str:
    """Budgets of one kind by methods, for each quality that we search for."""
    budgets = by_budget(record for record in records if kind_of(record) == kind)
    methods = sorted({method for found in budgets.values() for method in found}, key=METHOD_ORDER.index)
    return "\n".join(compared(budgets, methods, quality) for quality, ours in OURS.items() if ours in methods)


def compared(budgets: Mapping[str, Mapping[str, list[Record]]], methods: list[str], quality: Metric) -> str:
    """Medians of a quality, and how our search for it stands."""
    rows = []
    for budget, found in budgets.items():
        lowest = min(medians(found, quality).values())
        rows.append([budget, *(cell([value(record, quality) for record in found.get(m, [])], lowest, quality) for m in methods)])
    told = f"{quality.title[0].upper()}{quality.title[1:]}:\n\n{markdown(['budget', *methods], rows)}\n"
    stands = standing(budgets, quality)
    if stands.budgets:
        told += (
            f"\n`{OURS[quality]}` is not above any baseline at {stands.lowest} of {stands.budgets} budgets, within 0.5 % of the lowest "
            f"baseline at {stands.near}, {100 * stands.worst:.2f} % above it at worst.\n"
        )
    return told


def ladder(records: tuple[Record, ...]) -> list[str]:
    return next((list(r.specification["formats"]) for r in records if budget_of(r)), [])


def areas(results: Results) -> str:
    """Each method's hypervolume in every plane."""
    found = planes(results)
    if not found:
        return ""
    methods = list(found[0].shares)
    rows = []
    for plane in found:
        written = [f"{plane.shares[method]:.3f}" for method in methods]
        best = f"{max(plane.shares.values()):.3f}"
        rows.append([f"{plane.quality.short} by {plane.cost.short}", *(f"**{share}**" if share == best else share for share in written)])
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
    sweeps: dict[str, Results] = {}
    for archive in sorted(RECORDS.glob(f"*{SUFFIX}"), key=lambda path: path.name.removesuffix(SUFFIX)):
        with unpacked(archive) as records:
            sweeps[records.name] = read_results(records)
    parts = [HEAD, glance(sweeps.values()), *(section(results, name) for name, results in sweeps.items())]
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
