"""A run on several Ray nodes, some of which are lost meanwhile; started by test_nodes.py.

Prints one JSON line per message: what the run reports, then its result.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from coordinator import train
from coordinator.training.events import (
    Event,
    FaultSeen,
    Progress,
    Recovered,
    WorkersStarted,
    to_json,
)

JOB: dict[str, Any] = {
    "blocks": 2,
    "epochs": 15,
    "log_every": 1,
    "options": {"width": 64},
    "resources": {"timeout_s": 5},
}


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201


class Reporter:
    """A viewer that prints where the workers are, and the run's progress."""

    def __init__(self, on_step: Callable[[int, list[int]], None]) -> None:
        self._on_step, self._workers = on_step, list[int]()

    def event(self, event: Event) -> None:
        if isinstance(event, WorkersStarted):
            self._workers = list(event.processes)
            say(workers=self._workers, coordinator=event.coordinator)
        if isinstance(event, FaultSeen | Recovered):
            say(**to_json(event))

    def progress(self, progress: Progress) -> None:
        say(step=progress.step)
        self._on_step(progress.step, self._workers)


def on_a_cluster(folder: Path) -> None:
    """Three nodes on this host; one that hosts a block is killed after step 100."""
    os.chdir(folder)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    others = [cluster.add_node(num_cpus=1) for _ in range(2)]

    def kill(step: int, workers: list[int]) -> None:
        if step > 100 and others:
            hosting = {psutil.Process(worker).ppid() for worker in workers}
            for node in others:
                if node.all_processes["raylet"][0].process.pid in hosting:
                    say(lost="node")
                    cluster.remove_node(node, allow_graceful=False)
                    break
            others.clear()

    try:
        go(cluster.address, folder, Reporter(kill))
    finally:
        cluster.shutdown()


def go(address: str, folder: Path, reporter: Reporter) -> None:
    run = train("digits", run_dir=folder / "run", ray_address=address, viewer=reporter, **JOB)
    say(finished=run.summary["finished"], faults=run.summary["faults"])


if __name__ == "__main__":
    if sys.argv[1] == "cluster":
        on_a_cluster(Path(sys.argv[2]))
    else:
        go(sys.argv[1], Path(sys.argv[2]), Reporter(lambda step, workers: None))
