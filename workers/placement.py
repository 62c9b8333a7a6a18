"""Finds places for a job's workers on the cluster and starts them there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from dfa_core import JobError
from workers.actor import BlockActor
from workers.group import LOOPBACK

_START_S = 120.0


@dataclass(frozen=True)
class Share:
    """What one worker is given: CPUs (whole or a fraction), GPUs (whole or a fraction), threads."""

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1


@dataclass(frozen=True)
class Worker:
    """A started BlockWorker: its actor handle, its process id, and the node it is on."""

    actor: Any
    process: int
    node: str


class Placement:
    """A placement group with a worker in each of its bundles."""

    def __init__(self, blocks: int, share: Share, actor: Any = BlockActor) -> None:
        """Reserve and start. Raises JobError, with the numbers, when the cluster is too small.

        actor: a Ray actor class that takes the threads and answers place().
        """
        _check_fits(blocks, share)
        bundle = {"CPU": share.cpus, **({"GPU": share.gpus} if share.gpus else {})}
        self._group: PlacementGroup = placement_group([bundle] * blocks, strategy="PACK")
        if not self._group.wait(_START_S):
            remove_placement_group(self._group)
            raise JobError(
                f"{_needs(blocks, share)}, and they were not free within {_START_S:.0f} s"
            )
        self._actors: list[Any] = [
            actor.options(
                num_cpus=share.cpus,
                num_gpus=share.gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=index
                ),
            ).remote(share.threads)
            for index in range(blocks)
        ]

    @cached_property
    def workers(self) -> list[Worker]:
        """Return the workers once all are up: they start while their driver does other things.

        Raises JobError when they do not come.
        """
        try:
            places = ray.get([a.place.remote() for a in self._actors], timeout=_START_S)
        except GetTimeoutError as error:
            raise JobError(
                f"{len(self._actors)} workers did not start within {_START_S:.0f} s"
            ) from error
        return [Worker(a, *p) for a, p in zip(self._actors, places, strict=True)]

    def release(self) -> None:
        """Stop the workers and give their resources back."""
        for actor in self._actors:
            ray.kill(actor)
        remove_placement_group(self._group)


def meeting_host(workers: Sequence[Worker]) -> str:
    """Return where this process and these workers meet: loopback if all are on this node."""
    here = ray.get_runtime_context().get_node_id()
    one_node = all(worker.node == here for worker in workers)
    return LOOPBACK if one_node else str(ray.util.get_node_ip_address())


def _needs(blocks: int, share: Share) -> str:
    gpus = f" and {share.gpus:g} GPU" if share.gpus else ""
    return f"the job needs {blocks} worker(s) x {share.cpus:g} CPU{gpus}"


def _check_fits(blocks: int, share: Share) -> None:
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    if cpus < blocks * share.cpus or gpus < blocks * share.gpus:
        raise JobError(
            f"{_needs(blocks, share)}, the cluster has {cpus:g} CPU and {gpus:g} GPU; "
            f"ask for fewer blocks or a smaller share (resources.cpus, resources.gpus)"
        )
