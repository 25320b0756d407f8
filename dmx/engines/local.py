"""Processes on this machine, the threads split fairly among them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
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
        from dmx.running import failed_record, record_of

        if self.workers == 1 or len(runs) < 2:
            for run in runs:
                yield run, record_of(run, folder, progress=progress)
            return
        left = list(runs)
        while left:
            for run, record in _until_one_dies(left, folder, self.workers):
                left.remove(run)
                yield run, record
            for run in left[: self.workers]:  # begun in their order, so one of these it was: alone, each tells
                alone = next((record for _, record in _until_one_dies([run], folder, 1)), None)
                left.remove(run)
                yield run, alone or failed_record(run, DmxError("its process died, as it does where memory runs out"))


def _until_one_dies(runs: Sequence[Run], folder: Path, workers: int) -> Iterator[tuple[Run, dict[str, Any]]]:
    """All runs, or those that were done when a process died and took the others with it."""
    threads = max(1, processors() // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_share_threads, initargs=(threads,)) as pool:
        waiting: dict[Future[dict[str, Any]], Run] = {pool.submit(_work, run.to_json(), str(folder)): run for run in runs}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                run = waiting.pop(future)
                if not isinstance(future.exception(), BrokenProcessPool):
                    yield run, future.result()


def processors() -> int:
    """How many this process may use: fewer than the machine has, in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share_threads(threads: int) -> None:
    import numba
    import torch

    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def _work(run: dict[str, Any], folder: str) -> dict[str, Any]:
    from dmx.running import record_of

    return record_of(Run.from_json(run), Path(folder))
