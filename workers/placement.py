"""Reserves resources for a job's workers on the cluster and starts them there."""

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from dfa_core import JobError, TrainingFailed
from workers.actor import BlockActor
from workers.gpu import Gpu
from workers.grid import Grid
from workers.groups.group import LOOPBACK

_START_S = 120.0
_ANSWER_S = 5.0
_STARTS = 3
_ALIKE = 1.25  # nodes count as equally fast if their speeds differ by a smaller factor

Strategy = Literal["pack", "spread"]


@dataclass(frozen=True)
class WorkerResources:
    """Resources of one worker: CPUs and GPUs (whole numbers or fractions), threads."""

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1


@dataclass(frozen=True)
class Worker:
    """A started BlockWorker: its actor handle, its process id, and the node and GPU it is on."""

    actor: Any
    process: int
    node: str
    gpu: Gpu | None = None


class Placement:
    """A job's workers, in a placement group that reserves resources for all of them at once."""

    def __init__(
        self,
        grid: Grid,
        resources: WorkerResources,
        actor: Any = BlockActor,
        owner: str = "",
        strategy: Strategy = "pack",
    ) -> None:
        """Reserve resources and start the workers.

        actor: a Ray actor class whose argument is the number of threads and that has place().
        owner: a name that only one process at a time uses. What an earlier process reserved under
            it is released.
        strategy: use as few nodes as possible (pack), or as many (spread).

        Raises JobError, with the numbers, when the cluster is too small.
        """
        check_fits(len(grid), resources)
        self._grid, self._resources, self._actor, self._owner = grid, resources, actor, owner
        self._strategy = strategy
        if owner:
            release_left(lambda left: left == owner)
        self._groups: list[PlacementGroup] = []
        self._up: dict[int, Worker] = {}
        try:
            group = self._reserve(len(grid))
        except TrainingFailed as error:
            raise JobError(str(error)) from error
        self._bundles = [(group, index) for index in _node_by_node(group)]
        self._actors = [self._start(*bundle) for bundle in self._bundles]

    @property
    def workers(self) -> list[Worker]:
        """Return the workers once all have started; they start while the driver does other work.

        Raises TrainingFailed when one does not start.
        """
        numbers = range(1, len(self._actors) + 1)
        for number in numbers:
            if number not in self._up:
                self._up[number] = self._await(number)
        return [self._up[number] for number in numbers]

    def replace(self, lost: Collection[int]) -> tuple[list[Worker], set[str]]:
        """Start new workers in place of lost ones, on the same nodes where these answer.

        lost: their numbers, from 1. Returns all workers, and the nodes that do not answer.

        Raises TrainingFailed when resources are missing, or a worker does not start.
        """
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        nodes = {number: self._up[number].node for number in lost if number in self._up}
        gone = {node for node in set(nodes.values()) if not _answers(node, alive)}
        for number in lost:
            ray.kill(self._actors[number - 1])
            if nodes.get(number) in gone & alive:  # Ray has not noticed it yet
                self._bundles[number - 1] = (self._reserve(1, gone), 0)
            self._actors[number - 1] = self._start(*self._bundles[number - 1])
            self._up.pop(number, None)
        return self.workers, gone

    def _await(self, number: int) -> Worker:
        label = self._grid.label(number)
        deadline = monotonic() + _START_S
        for _ in range(_STARTS):
            actor = self._actors[number - 1]
            try:
                place = ray.get(actor.place.remote(), timeout=max(0.0, deadline - monotonic()))
                return Worker(actor, *place)
            except GetTimeoutError as error:
                raise TrainingFailed(
                    f"the worker of {label} did not start within {_START_S:.0f} s"
                ) from error
            except RayActorError:  # killed while it started
                self._actors[number - 1] = self._start(*self._bundles[number - 1])
        raise TrainingFailed(f"the worker of {label} died {_STARTS} times while it started")

    def release(self) -> None:
        """Stop the workers and release their resources."""
        for actor in self._actors:
            ray.kill(actor)
        for group in self._groups:
            remove_placement_group(group)

    def _reserve(self, bundles: int, avoid: Collection[str] = ()) -> PlacementGroup:
        resources = self._resources
        bundle = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
        labels = [{"ray.io/node-id": f"!in({','.join(avoid)})"}] * bundles if avoid else None
        group = placement_group(
            [bundle] * bundles,
            strategy=self._strategy.upper(),
            name=f"{self._owner}#{secrets.token_hex(6)}" if self._owner else "",
            bundle_label_selector=labels,
        )
        self._groups.append(group)
        if not group.wait(_START_S):
            raise TrainingFailed(
                f"{_needs(bundles, resources)}, and they were not free within {_START_S:.0f} s"
            )
        return group

    def _start(self, group: PlacementGroup, index: int) -> Any:
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        return self._actor.options(
            num_cpus=self._resources.cpus,
            num_gpus=self._resources.gpus,
            scheduling_strategy=strategy,
        ).remote(self._resources.threads)


def _node_by_node(group: PlacementGroup) -> list[int]:
    """Return the bundles in the order of the workers: this node's first, then node by node.

    Neighbouring blocks, which exchange activations, are then on one node where possible.
    """
    nodes: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    here = ray.get_runtime_context().get_node_id()
    return sorted(nodes, key=lambda index: (nodes[index] != here, nodes[index], index))


def speeds(workers: Sequence[Worker], grid: Grid) -> list[float] | None:
    """Return each block's speed, or None where nodes differ by no more than measurements do.

    The speed of a block is that of its slowest replica. All workers are measured at the same time,
    as they will later compute. None also where a worker does not answer: Pipeline.start() will
    notice it and the run recovers.
    """
    if len({worker.node for worker in workers}) < 2:
        return None
    try:
        calls = [worker.actor.speed.remote() for worker in workers]
        each: list[float] = ray.get(calls, timeout=_ANSWER_S)
    except RayError:
        return None
    return speeds_of_blocks([worker.node for worker in workers], each, grid)


def speeds_of_blocks(
    nodes: Sequence[str], measured: Sequence[float], grid: Grid
) -> list[float] | None:
    """Return each block's speed, or None where nodes differ by no more than measurements do.

    nodes, measured: of each worker, its node and its measured speed. A worker counts as fast as
    the median of its node.
    """
    of_node = {
        node: median(s for at, s in zip(nodes, measured, strict=True) if at == node)
        for node in set(nodes)
    }
    if max(of_node.values()) < _ALIKE * min(of_node.values()):
        return None
    return [
        min(
            of_node[node]
            for number, node in enumerate(nodes, start=1)
            if grid.seat_of(number) == block
        )
        for block in range(1, grid.blocks + 1)
    ]


def release_left(is_left: Callable[[str], bool]) -> None:
    """Remove the placement groups that killed processes have left: Ray keeps some of them.

    It does so where the process was killed just as it asked for the group.

    is_left: whether an owner, as Placement() was given it, is gone.
    """
    for group in placement_group_table().values():
        owner, _, number = group["name"].rpartition("#")
        if number and group["state"] != "REMOVED" and is_left(owner):
            with suppress(ValueError):  # it is being removed
                remove_placement_group(get_placement_group(group["name"]))


def _answers(node: str, alive: Collection[str]) -> bool:
    """Return whether a node runs a task in time; this process's node does."""
    if node == ray.get_runtime_context().get_node_id():
        return True
    if node not in alive:
        return False
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0)(lambda: True)
    try:
        return bool(ray.get(task.options(scheduling_strategy=there).remote(), timeout=_ANSWER_S))
    except RayError:
        return False


def rendezvous_host(workers: Sequence[Worker]) -> str:
    """Return the address of the rendezvous: loopback if all workers are on this node."""
    here = ray.get_runtime_context().get_node_id()
    one_node = all(worker.node == here for worker in workers)
    return LOOPBACK if one_node else str(ray.util.get_node_ip_address())


def _needs(workers: int, resources: WorkerResources) -> str:
    gpus = f" and {resources.gpus:g} GPU" if resources.gpus else ""
    return f"the job needs {workers} worker(s) x {resources.cpus:g} CPU{gpus}"


def check_fits(workers: int, resources: WorkerResources) -> None:
    """Raise JobError, with the numbers, if the cluster is too small for these workers."""
    cluster = ray.cluster_resources()
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    if cpus < workers * resources.cpus or gpus < workers * resources.gpus:
        raise JobError(
            f"{_needs(workers, resources)}, the cluster has {cpus:g} CPU and {gpus:g} GPU; "
            f"ask for fewer blocks or replicas, or a smaller share (resources.cpus, resources.gpus)"
        )
