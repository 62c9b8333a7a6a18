"""Places workers on two Ray nodes of this host, and says where; started by test_placement.py."""

import json
import os

import ray
from ray.cluster_utils import Cluster

from workers.grid import Grid
from workers.placement import Placement, WorkerResources


@ray.remote
class Small:
    """An actor that starts at once: it imports no torch."""

    def __init__(self, threads: int) -> None:
        pass

    def place(self) -> tuple[int, str, None]:
        """Return (process id, node id, GPU)."""
        return os.getpid(), ray.get_runtime_context().get_node_id(), None


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    cluster.add_node(num_cpus=3)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    here = ray.get_runtime_context().get_node_id()
    apart = Placement(Grid(2), WorkerResources(), strategy="spread")
    one_each = apart.workers  # two CPUs are left on either node
    together = Placement(Grid(4), WorkerResources(), Small, strategy="pack")
    found = {
        "spread": [worker.node == here for worker in one_each],
        "pack": [worker.node == here for worker in together.workers],
        "measured": ray.get([worker.actor.speed.remote() for worker in one_each]),
    }
    together.release()
    apart.release()
    print(json.dumps(found), flush=True)  # noqa: T201
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
