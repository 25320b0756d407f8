"""A Ray cluster: the same runs and records; what a lost node was doing is done again elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dmx.errors import DmxError
from dmx.records import Run

#: How often a run is started again when its node is lost.
RETRIES = 3


class RayEngine:
    """One task a run, one processor each. Every node needs the model's and the texts' files at the same paths."""

    def __init__(self, address: str | None = None) -> None:
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise DmxError("engine ray is not installed: pip install 'mxsim[ray]', or use --engine local") from error
        self.address = address

    def do(self, runs: Sequence[Run], folder: Path, *, progress: bool = False) -> Iterator[tuple[Run, dict[str, Any]]]:
        ray = self.ray
        if not ray.is_initialized():
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
        waiting = {task.remote(run.to_json(), str(folder)): run for run in runs}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(ready), ray.get(ready)


def _work(run: dict[str, Any], folder: str) -> dict[str, Any]:
    import torch

    from dmx.running import record_of

    torch.set_num_threads(1)
    return record_of(Run.from_json(run), Path(folder))
