"""Where runs are done: processes on this machine, or a Ray cluster. To add an engine, add a file with a class that has `do`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from dmx.records import Run
from mxsim.errors import unknown_name

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Does runs, begun in their order, and gives each back with its record as it ends; may show bars of its own for what runs."""

    def do(self, runs: Sequence[Run], folder: Path, *, progress: bool) -> Iterator[tuple[Run, dict[str, Any]]]: ...


def engine(name: str, *, workers: int = 1, address: str | None = None) -> Engine:
    """The engine of a name. Raises: UnknownNameError, or DmxError where it is not installed."""
    if name == "local":
        from dmx.engines.local import LocalEngine

        return LocalEngine(workers)
    if name == "ray":
        from dmx.engines.ray_cluster import RayEngine

        return RayEngine(address)
    raise unknown_name("engine", name, ENGINES)
