"""Processes on this machine, the threads split fairly among them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from dmx.errors import DmxError
from dmx.records import Run


class LocalEngine:
    """One worker runs in this process; more are processes of their own, each with its share of the threads."""

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise DmxError(f"{workers} workers: pass at least 1")
        self.workers = workers

    def do(self, runs: Sequence[Run], folder: Path, *, progress: bool = False) -> Iterator[tuple[Run, dict[str, Any]]]:
        if self.workers == 1 or len(runs) < 2:
            from dmx.running import record_of

            for run in runs:
                yield run, record_of(run, folder, progress=progress)
            return
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, mp_context=context, initializer=_share_threads, initargs=(threads,)) as pool:
            waiting: dict[Future[dict[str, Any]], Run] = {pool.submit(_work, run.to_json(), str(folder)): run for run in runs}
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    run = waiting.pop(future)
                    yield run, future.result()


def _share_threads(threads: int) -> None:
    import numba
    import torch

    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def _work(run: dict[str, Any], folder: str) -> dict[str, Any]:
    from dmx.running import record_of

    return record_of(Run.from_json(run), Path(folder))
