"""Finds places for a job's workers on the cluster and starts them there."""

import secrets
from collections.abc import Collection, Sequence
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
from workers.group import LOOPBACK

_START_S = 120.0
_ANSWER_S = 5.0
_STARTS = 3
_ALIKE = 1.25  # nodes whose speeds differ by less are taken to be equally fast

Strategy = Literal["pack", "spread"]


@dataclass(frozen=True)
class WorkerResources:
    """What one worker is given: CPUs (whole or a fraction), GPUs (whole or a fraction), threads."""

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
    """A job's workers, in a placement group that reserves room for all of them at once."""

    def __init__(
        self,
        grid: Grid,
        share: WorkerResources,
        actor: Any = BlockActor,
        owner: str = "",
        strategy: Strategy = "pack",
    ) -> None:
        """Reserve and start. Raises JobError, with the numbers, when the cluster is too small.

        actor: a Ray actor class that takes the threads and answers place().
        strategy: on as few nodes as they fit on, or on as many as there are.
        owner: a name that one process at a time has; what one before it left is given back.
        """
        _check_fits(len(grid), share)
        self._grid, self._share, self._actor, self._owner = grid, share, actor, owner
        self._strategy = strategy
        if owner:
            _give_back(owner)
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
        """Return the workers once all are up: they start while their driver does other things.

        Raises TrainingFailed when they do not come.
        """
        numbers = range(1, len(self._actors) + 1)
        for number in numbers:
            if number not in self._up:
                self._up[number] = self._await(number)
        return [self._up[number] for number in numbers]

    def replace(self, lost: Collection[int]) -> tuple[list[Worker], set[str]]:
        """Start these workers (from 1) anew, where their nodes answer on the same.

        Returns all workers, and the nodes that do not answer.

        Raises TrainingFailed when there is no room for them, or they do not come.
        """
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        nodes = {number: self._up[number].node for number in lost if number in self._up}
        gone = {node for node in set(nodes.values()) if not _answers(node, alive)}
        for number in lost:
            ray.kill(self._actors[number - 1])
            if nodes.get(number) in gone & alive:  # Ray does not know yet, and would wait
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
        """Stop the workers and give their resources back."""
        for actor in self._actors:
            ray.kill(actor)
        for group in self._groups:
            remove_placement_group(group)

    def _reserve(self, bundles: int, avoid: Collection[str] = ()) -> PlacementGroup:
        share = self._share
        bundle = {"CPU": share.cpus, **({"GPU": share.gpus} if share.gpus else {})}
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
                f"{_needs(bundles, share)}, and they were not free within {_START_S:.0f} s"
            )
        return group

    def _start(self, group: PlacementGroup, index: int) -> Any:
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        return self._actor.options(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            scheduling_strategy=strategy,
        ).remote(self._share.threads)


def _node_by_node(group: PlacementGroup) -> list[int]:
    """Return the bundles in the order in which blocks take them: this node's, then each other's.

    So that neighbours, which pass activations on, are on one node as far as can be.
    """
    nodes: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    here = ray.get_runtime_context().get_node_id()
    return sorted(nodes, key=lambda index: (nodes[index] != here, nodes[index], index))


def speeds(workers: Sequence[Worker], grid: Grid) -> list[float] | None:
    """Return each block's speed, where nodes differ in it by more than measurements do.

    That of a block's slowest replica; all workers are measured at once, as they will work. None
    where one does not answer: whoever starts them finds that out, and replaces it.
    """
    if len({worker.node for worker in workers}) < 2:
        return None
    try:
        asked = [worker.actor.speed.remote() for worker in workers]
        each: list[float] = ray.get(asked, timeout=_ANSWER_S)
    except RayError:
        return None
    of_node = {
        node: median(s for w, s in zip(workers, each, strict=True) if w.node == node)
        for node in {worker.node for worker in workers}
    }
    if max(of_node.values()) < _ALIKE * min(of_node.values()):
        return None
    return [
        min(
            of_node[worker.node]
            for number, worker in enumerate(workers, start=1)
            if grid.block_of(number) == block
        )
        for block in range(1, grid.blocks + 1)
    ]


def _give_back(owner: str) -> None:
    """Remove the groups of a process that was killed: Ray keeps them as long as its driver."""
    for group in placement_group_table().values():
        if group["name"].startswith(f"{owner}#") and group["state"] != "REMOVED":
            remove_placement_group(get_placement_group(group["name"]))


def _answers(node: str, alive: Collection[str]) -> bool:
    """Return whether a node runs a task of ours in time; that of this process does."""
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
    """Return where this process and these workers meet: loopback if all are on this node."""
    here = ray.get_runtime_context().get_node_id()
    one_node = all(worker.node == here for worker in workers)
    return LOOPBACK if one_node else str(ray.util.get_node_ip_address())


def _needs(workers: int, share: WorkerResources) -> str:
    gpus = f" and {share.gpus:g} GPU" if share.gpus else ""
    return f"the job needs {workers} worker(s) x {share.cpus:g} CPU{gpus}"


def _check_fits(workers: int, share: WorkerResources) -> None:
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    if cpus < workers * share.cpus or gpus < workers * share.gpus:
        raise JobError(
            f"{_needs(workers, share)}, the cluster has {cpus:g} CPU and {gpus:g} GPU; "
            f"ask for fewer blocks or replicas, or a smaller share (resources.cpus, resources.gpus)"
        )
