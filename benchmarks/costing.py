"""How long a cost takes: `python -m benchmarks.costing`. Medians; the limits are what a user should not have to wait."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.timing import markdown
from mxsim.cost_table import build_cost_table
from mxsim.costing import cost
from mxsim.workload import Phase, build_workload

PAIRS = ("bf16", "fp8_e4m3", "mxfp8_e4m3", "mxfp6_e2m3", "mxfp4_e2m1", "nvfp4")
PHASES = (Phase(), Phase(kind="prefill"))


def reports(model: str) -> None:
    """Every layer in every pair and phase, nothing kept from before."""
    build_workload.cache_clear()
    for pair in PAIRS:
        for phase in PHASES:
            cost(model, "b200", pair, phase.kind, phase.batch, phase.context)


def tables(model: str) -> None:
    build_workload.cache_clear()
    build_cost_table(model, "b200", PAIRS, PHASES, tie=False)


def command_line() -> None:
    call = "import sys; from mxsim.cli import main; sys.argv = sys.argv[1:]; main()"
    arguments = ["mxsim", "cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "mxfp4_e2m1"]
    subprocess.run([sys.executable, "-c", call, *arguments], capture_output=True, check=True)


def median_ms(run: Callable[[], None], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def main() -> None:
    rows: list[tuple[str, Callable[[], None], int, float]] = [
        ("Llama-3.1-8B, 6 pairs, 2 phases, all layers", lambda: reports("Llama-3.1-8B"), 15, 50),
        ("Llama-3.1-8B, the same as a cost table", lambda: tables("Llama-3.1-8B"), 15, 50),
        ("gpt-oss-120b, 6 pairs, 2 phases, all layers", lambda: reports("gpt-oss-120b"), 15, 200),
        ("gpt-oss-120b, the same as a cost table", lambda: tables("gpt-oss-120b"), 15, 200),
        ("mxsim cost, start to end", command_line, 5, 1500),
    ]
    print("## Costing\n\nMedians, nothing kept from one call to the next. `python -m benchmarks.costing`\n")
    table = [[name, f"{median_ms(run, repeats):.1f}", f"{limit:g}"] for name, run, repeats, limit in rows]
    print(markdown(["", "ms", "at most"], table))


if __name__ == "__main__":
    main()
