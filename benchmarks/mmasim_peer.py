"""mmasim's speed on a path, asked for by benchmarks.units over a pipe: mmasim brings torch and usually has an environment of its own.

MXSIM_MMASIM_PYTHON names the Python of that environment; without it this one is tried. Operands are those of tests/golden/units.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parent.parent
SIZE, K = 64, 128  #: mmasim expands (M, N, K) into float64: its speed does not grow with the size


class Peer:
    """A process with mmasim that multiplies when told to. Without mmasim it has no version and takes nothing."""

    def __init__(self) -> None:
        python = os.environ.get("MXSIM_MMASIM_PYTHON", sys.executable)
        command = [python, "-m", "benchmarks.mmasim_peer"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.version: str | None = self._process.stdout.readline().strip() or None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def takes(self, key: str) -> bool:
        """Whether mmasim models a path; one multiplication of it is then ready to run."""
        return self.version is not None and self._ask(f"take {key}") == "yes"

    def seconds(self, key: str) -> float:
        """The processor time of (SIZE, K) by (K, SIZE) on one thread; torch's second thread makes so small a product slower."""
        return float(self._ask(f"run {key}"))

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def main() -> None:
    """Serve: a line with the version, then a line for every line read. Without mmasim: nothing."""
    try:
        version = importlib.metadata.version("mmasim")
        import numpy as np
        import torch

        from tests.golden.units import make_mmasim
    except ImportError:  # PackageNotFoundError is one too
        return
    torch.set_num_threads(1)
    print(version, flush=True)
    paths, ready = {path.key: path for path in make_mmasim.every_path()}, {}
    for line in sys.stdin:
        word, key = line.split()
        if word == "take" and key in paths:
            ready[key] = make_mmasim.operands(np.random.default_rng(0), paths[key], K // paths[key].chunk, SIZE)
            make_mmasim.answers(paths[key], ready[key])
        start = time.process_time()
        if word == "run":
            make_mmasim.answers(paths[key], ready[key])
        print(time.process_time() - start if word == "run" else "yes" if key in paths else "no", flush=True)


if __name__ == "__main__":
    main()
