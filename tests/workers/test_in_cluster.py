"""An object that is not there yet keeps no worker from giving signs of life."""

import time
from pathlib import Path
from typing import Any

import pytest
import ray

from workers.grid import Grid
from workers.in_cluster import InCluster
from workers.placement import Placement, WorkerResources


@pytest.mark.ray
def test_a_worker_that_waits_for_an_object_gives_signs_of_life(a_ray: None, tmp_path: Path) -> None:
    def once_there(path: Path) -> list[Any]:
        while not path.exists():
            time.sleep(0.01)
        return []

    placement = Placement(Grid(1), WorkerResources())
    actor, path = placement.workers[0].actor, tmp_path / "there"
    slow: Any = ray.remote(num_cpus=0)(once_there)
    held = actor.hold.remote(1, 1, InCluster(slow.remote(path)))
    assert ray.get(actor.sign.remote(), timeout=60)
    assert ray.wait([held], timeout=0)[0] == []
    path.touch()
    ray.get(held)
    assert ray.get(actor.held.remote(1, 1)) == []
    placement.release()
