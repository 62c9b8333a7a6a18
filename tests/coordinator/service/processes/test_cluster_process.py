"""What the Ray driver of a service does on its cluster."""

from pathlib import Path

import pytest
import ray
from ray.util import placement_group_table

from coordinator.service.processes.cluster_process import Cluster
from workers.grid import Grid
from workers.placement import Placement, WorkerResources


@ray.remote
class Small:
    """An actor that starts at once."""

    def __init__(self, threads: int) -> None:
        pass


@pytest.mark.ray
def test_what_killed_jobs_have_left_is_released(a_ray: None, tmp_path: Path) -> None:
    """Ray leaves a placement group where its creator is killed just as it asks for it."""
    jobs = tmp_path / "jobs"
    owners = {
        "ended": str(jobs / "digits-0001"),
        "active": str(jobs / "digits-0002"),
        "strange": str(tmp_path / "run"),
    }
    made = {name: Placement(Grid(1), WorkerResources(), Small, o) for name, o in owners.items()}
    before = placed(owners)
    Cluster().capacity(str(jobs), [owners["active"]])
    assert before == {"ended", "active", "strange"}
    assert placed(owners) == {"active", "strange"}
    for placement in made.values():
        placement.release()


def placed(owners: dict[str, str]) -> set[str]:
    """Return which of these have placement groups now."""
    groups = placement_group_table().values()
    there = {g["name"].rpartition("#")[0] for g in groups if g["state"] != "REMOVED"}
    return {name for name, owner in owners.items() if owner in there}
