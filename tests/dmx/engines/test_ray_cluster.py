"""A sweep on a Ray cluster of two nodes on this machine, one of which is killed in its midst."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dmx.records import DONE
from dmx.sweep import run_sweep
from tests.dmx.small_sweeps import RUNS, small_sweep
from tests.dmx.test_sweep import results

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


def test_what_a_lost_node_was_doing_is_done_again(llama_folder: Path, text_file: Path, tmp_path: Path) -> None:
    ray: Any = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found]

    sweep = small_sweep(llama_folder, text_file)
    run_sweep(sweep, tmp_path / "alone", progress=False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
    lost = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    done_before_the_kill: list[int] = []

    def kill() -> None:
        while not list(tmp_path.glob("cluster/records/*.json")):
            time.sleep(0.01)
        done_before_the_kill.append(len(list(tmp_path.glob("cluster/records/*.json"))))
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        told = run_sweep(sweep, tmp_path / "cluster", engine_name="ray", address=cluster.address, progress=False)
        killer.join(60)
        limit = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) > 1:  # the cluster notices by missing heartbeats
            assert time.monotonic() < limit
            time.sleep(0.1)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert done_before_the_kill[0] < RUNS
    assert (told["done"], told["failed"]) == (RUNS, [])
    assert {record["status"] for record in results(tmp_path / "cluster").values()} == {DONE}
    assert results(tmp_path / "cluster") == results(tmp_path / "alone")
