"""`python -m reports.make_unit_quality SWEEP [--model MODEL --text FILE] -o FILE`: a sweep's assignments through units, in perplexity."""

from __future__ import annotations

from tqdm import tqdm

import dmx
from dmx.evaluation import report_text
from mxsim.assignment import Assignment
from reports.arguments import add_budgets, found_by_dmx, sweep_parser
from reports.tables import write_table

UNITS = ("nvidia_blackwell", "mx_fp32_chain")
TOKENS = 16384


def main() -> None:
    parser = sweep_parser(__doc__)
    add_budgets(parser)
    asked = parser.parse_args()
    model = dmx.load_model(asked.model)
    text = report_text(model, asked.text, part=asked.part, context=asked.window)
    text = text.first(max(1, TOKENS // text.windows.shape[1]))
    rows = []
    records = found_by_dmx(asked.sweep, asked.budgets)
    ladder = "/".join(records[0].specification["formats"])
    for record in tqdm(records, desc="assignments", unit="assignment"):
        assignment = Assignment.from_json(record.assignment)
        cells = []
        for unit in UNITS:
            found = dmx.evaluate(model, assignment, text=text, unit=unit, kl=False)
            beside = found["fake_quantisation"]
            if not cells:
                cells.append(f"{beside['perplexity']:.6f}")
            cells += [f"{found['perplexity']:.6f}", f"{beside['relative_difference_of_outputs']:.1e}"]
        rows.append([record.specification["budget"]["text"], *cells])
        write_table(
            asked.output,
            title=f"{model.name}, {ladder}: the found assignments through units",
            about=f"{text.scored_tokens} tokens scored, the same in each column; each assigned linear's outputs are the unit's own bits. "
            "Differences are those of a linear's outputs from fake quantisation's in float32, as a share of their size.",
            head=["budget", "fake quantisation", *(cell for unit in UNITS for cell in (unit, "difference"))],
            rows=rows,
        )


if __name__ == "__main__":
    main()
