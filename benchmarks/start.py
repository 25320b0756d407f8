"""How long a user waits before anything happens: `python -m benchmarks.start`. Medians of fresh processes, the kernels' cache warm."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.timing import markdown

COMMAND = "import sys; from mxsim.cli import main; sys.argv = ['mxsim', *sys.argv[1:]]; main()"
FIRST_CALL = """
import time
import numpy as np
start = time.perf_counter()
import mxsim
mxsim.{call}
print(time.perf_counter() - start)
"""
IMPORT = "import time; start = time.perf_counter(); import mxsim; print(time.perf_counter() - start)"
COST = ("cost", "Llama-3.1-8B", "--hardware", "b200", "--format", "mxfp4_e2m1")
REPEATS = 7


def printed(code: str) -> float:
    """The seconds that a fresh process prints."""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def whole(*arguments: str) -> float:
    """The seconds that a command takes from start to end, the interpreter's own start included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, check=True)
    return time.perf_counter() - start


def torch_imported() -> bool:
    """Whether `mxsim cost` imports torch or numba."""
    code = "import sys; from typer.testing import CliRunner; from mxsim.cli import app; "
    code += f"CliRunner().invoke(app, {list(COST)!r}); print(int('torch' in sys.modules or 'numba' in sys.modules))"
    return bool(printed(code))


def main() -> None:
    quantize = FIRST_CALL.format(call="quantize(np.ones((4, 64), np.float32), 'mxfp4_e2m1')")
    fake = FIRST_CALL.format(call="fake_quantize(np.ones((4, 64), np.float32), 'mxfp8_e4m3')")
    cases = {
        "`import mxsim`": (lambda: printed(IMPORT), 0.3),
        "first `quantize`, import included": (lambda: printed(quantize), 1.5),
        "first `fake_quantize`, import included": (lambda: printed(fake), 1.5),
        "`mxsim formats`, start to end": (lambda: whole("formats"), 0.6),
        "`mxsim cost Llama-3.1-8B`, start to end": (lambda: whole(*COST), 1.5),
    }
    rows = []
    for name, (run, limit) in cases.items():
        run()
        taken = statistics.median(run() for _ in range(REPEATS))
        rows.append([name, f"{taken:.2f}", f"{limit:g}"])
    print("## Start\n")
    print(f"Medians of {REPEATS} fresh processes, warm cache. `python -m benchmarks.start`\n")
    print(markdown(["", "seconds", "at most"], rows))
    print(f"\n`mxsim cost` imports torch or numba: {'yes' if torch_imported() else 'no'}.")


if __name__ == "__main__":
    main()
