"""`python -m reports.make_cost_aware [MODEL --text FILE] -o FILE`: a search under energy or latency against one under bits, at equal cost.

The search under bits goes first; what its result costs on the device is the budget of the other.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from tqdm import tqdm

import dmx
from dmx.budget import Budget, Scenario, achieved
from dmx.text import TokenText, read_text, tokenize
from mxsim.assignment import Assignment
from reports.tables import write_table

BITS = ("bits=4.5", "bits=5", "bits=6")
#: kind of budget, what `achieved` calls it, its scenario
CASES = (
    ("latency", "latency_s", Scenario(device="b200", assume=("b200-fp4-half-fp8",))),
    ("energy", "energy_pj", Scenario(device="b200", assume=("b200-fp4-half-fp8",))),
    ("energy", "energy_pj", Scenario(device="vmxdotp_12nm", assume=("vmxdotp_12nm-bf16-twice-fp8",))),
)
WINDOWS = 128
HEAD = ("budget", "device", "cost", "bits of each", "perplexity, under bits", "perplexity, under cost", "change")


def texts(model: dmx.LoadedModel, path: str | None, window: int) -> tuple[TokenText, TokenText]:
    """What is searched and what is reported: the embedded model's own, or a file's halves."""
    if path is None:
        from dmx import reference

        searched, reported = (tokenize(model, reference.text(part), name=f"embedded world, {part}") for part in ("search", "report"))
    else:
        searched, reported = (
            tokenize(model, read_text(path), name=f"{Path(path).name}, {part} half", context=window, part=part)
            for part in ("first", "second")
        )
    return searched, reported.first(WINDOWS)


def energy(picojoules: float) -> str:
    return f"{1e-9 * picojoules:.4g} mJ" if picojoules >= 1e9 else f"{1e-6 * picojoules:.4g} uJ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--text")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-o", "--output", required=True, type=Path)
    asked = parser.parse_args()
    model = dmx.load_model(asked.model)
    searched, reported = texts(model, asked.text, asked.window)

    def found(budget: str | Budget, seed: int) -> tuple[Assignment, float]:
        assignment = dmx.search(model, budget, text=searched, tokens=asked.tokens, seed=seed)
        return assignment, float(dmx.evaluate(model, assignment, text=reported, kl=False)["perplexity"])

    rows = []
    bar = tqdm(total=len(BITS) * (1 + len(CASES)) * asked.seeds, desc="searches", unit="search")
    for bits in BITS:
        by_bits = []
        for seed in range(asked.seeds):
            by_bits.append(found(bits, seed))
            bar.update()
        for kind, metric, scenario in CASES:
            pairs = []
            for seed, (assignment, perplexity) in enumerate(by_bits):
                cost = achieved(assignment, model.shape, scenario)[metric]
                if cost is None:
                    raise SystemExit(f"{scenario.device} knows no {kind} of these formats")
                other, below = found(Budget(kind=kind, amount=cost, is_share=False, scenario=scenario), seed)
                spent = achieved(other, model.shape, scenario)
                pairs.append((cost, achieved(assignment, None, scenario)["bits"] or 0.0, spent["bits"] or 0.0, perplexity, below))
                bar.update()
            cost, ours, theirs, before, after = (statistics.median(values) for values in zip(*pairs, strict=True))
            shown = f"{1e6 * cost:.4g} us" if kind == "latency" else energy(cost)
            rows.append(
                [
                    bits,
                    f"{scenario.device}, {kind}",
                    shown,
                    f"{ours:.3f}, {theirs:.3f}",
                    f"{before:.4f}",
                    f"{after:.4f}",
                    f"{after / before - 1:+.2%}",
                ]
            )
            write_table(
                asked.output,
                title=f"{model.name}: a search under cost against one under bits, at the same cost",
                about=f"MXFP4/MXFP8, one sequence decoded, median of {asked.seeds} seeds, {asked.tokens} tokens searched, "
                f"{reported.scored_tokens} reported; cost is of one token. Energy on b200 assumes b200-fp4-half-fp8.",
                head=HEAD,
                rows=rows,
            )


if __name__ == "__main__":
    main()
