"""`python -m reports.make_paired SWEEP [--kinds KINDS] [--model MODEL --text FILE | --tokens N] -o FILE`: dMX against the best baseline.

A median may lie above another by what is chance on the text that both are reported on; the spread over its windows says how much that is.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

import torch
from tqdm import tqdm

import dmx
from analysis.names import OWN_METHODS, PERPLEXITY
from analysis.records import Record, read_results
from dmx.calibration import Calibration
from dmx.errors import DmxError
from dmx.evaluation import report_text
from dmx.quantised_linear import apply
from dmx.text import TokenText
from mxsim.assignment import Assignment
from reports.arguments import add_tokens, sweep_parser
from reports.tables import write_table

METHOD = "dmx"
WINDOWS_AT_ONCE = 8


def perplexity(record: Record) -> float:
    return float(record.quality[PERPLEXITY.column])


def row_order(budget: str, kinds: list[str]) -> tuple[int, float]:
    """By kind, as asked for, then by amount."""
    kind, _, amount = budget.partition("=")
    return kinds.index(kind), float(amount.rstrip("x"))


def median_run(records: list[Record]) -> Record:
    """The run whose perplexity is the seeds' (lower) median."""
    return sorted(records, key=perplexity)[(len(records) - 1) // 2]


def losses(model: dmx.LoadedModel, record: Record, text: TokenText) -> torch.Tensor:
    """(windows,) float64 mean loss per token."""
    calibration = Calibration(model, text, "ce")
    with apply(model, Assignment.from_json(record.assignment)), torch.no_grad():
        return torch.cat([calibration.losses(i) for i in torch.split(torch.arange(len(text.windows)), WINDOWS_AT_ONCE)]).double()


def main() -> None:
    parser = sweep_parser(__doc__)
    parser.add_argument("--kinds", default="bits", help="of budgets, with commas between")
    add_tokens(parser)
    asked = parser.parse_args()
    kinds = asked.kinds.split(",")
    by_budget: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in read_results(asked.sweep).records:
        budget = record.specification["budget"]
        if budget and budget["kind"] in kinds:
            by_budget[budget["text"]][record.method].append(record)
    if not by_budget:
        raise DmxError(f"{asked.sweep} holds no record at a budget in {asked.kinds}: give its kinds with --kinds, such as bytes,energy")
    first = next(iter(next(iter(by_budget.values())).values()))[0].specification
    model = dmx.load_model(asked.model)
    window = asked.window or first["settings"]["context"]
    text = report_text(model, asked.text, part=asked.part, context=window, tokens=asked.tokens)
    if text.sha256 != first["text"]["report"]["sha256"]:
        raise DmxError(f"{asked.sweep} was reported on another text than this {text.name!r}: give its own with --text, --part or --tokens")
    text = text.first(first["settings"]["report_windows"])
    rows = []
    for budget in tqdm(sorted(by_budget, key=lambda budget: row_order(budget, kinds)), desc="budgets", unit="budget"):
        found = by_budget[budget]
        baselines = {name: records for name, records in found.items() if name not in OWN_METHODS}
        best = min(baselines, key=lambda name: statistics.median(map(perplexity, baselines[name])))
        ours, theirs = (losses(model, median_run(records), text) for records in (found[METHOD], baselines[best]))
        difference = ours - theirs
        error = float(difference.std()) / math.sqrt(len(difference))
        mean = float(difference.mean())
        rows.append([budget, best, f"{1e3 * mean:+.3f}", f"{1e3 * error:.3f}", f"{mean / error:+.1f}" if error else "same"])
        write_table(
            asked.output,
            title=f"{model.name}, {', '.join(first['formats'])}{'' if kinds == ['bits'] else f', by {asked.kinds}'}: "
            "dMX against the lowest baseline, window by window",
            about="Loss per token of dMX less that of the baseline whose median is lowest, times 1000 (one is 0.1 % of perplexity), for "
            f"the runs at the seeds' median, over {len(text.windows)} windows of the report text; its standard error over windows; their "
            "ratio, below 0 where dMX is lower.",
            head=["budget", "lowest baseline", "difference", "standard error", "ratio"],
            rows=rows,
        )


if __name__ == "__main__":
    main()
