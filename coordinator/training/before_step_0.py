"""What a run is made of before its first step: where batches come from, and the plan."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import ray

from coordinator.engine.head_place import with_head_placed
from coordinator.engine.memory import check_memory, most_waiting, room_of_nodes
from coordinator.engine.plan import Plan, make_plan
from coordinator.engine.trials import DataTrials
from coordinator.job.resolve import Job
from coordinator.job.settings import JobSettings
from coordinator.job.user_code import pack
from dfa_core import JobError, LearningRule
from dfa_tasks import BatchSource, Splits
from dfa_tasks.shares import Shares
from dfa_tasks.source import as_source
from dfa_tasks.stream import Stream
from workers.gpu import device_here, gpus_of_this_node
from workers.grid import Grid
from workers.payload import PickledPayload
from workers.placement import Placement, Worker, WorkerResources, speeds
from workers.reading.parallel_source import ParallelSource


def start_workers(settings: JobSettings, run_dir: Path, at_end: ExitStack) -> Placement:
    """Start the workers first: they come up while the data is loaded and the plan is made.

    run_dir: names who owns them. at_end: releases them.

    Raises JobError where the job asks for a GPU that the coordinator's node lacks.
    """
    resources = settings.resources
    if resources.coordinator_gpus and device_here().type == "cpu":
        raise JobError(
            f"resources.coordinator_gpus: {resources.coordinator_gpus:g} are asked for, and "
            f"the coordinator's node has {gpus_of_this_node():g} GPU; set it to 0, or start "
            f"the job on a node with a GPU"
        )
    each = WorkerResources(resources.cpus, resources.gpus, resources.threads)
    grid = Grid(settings.blocks, settings.replicas, settings.heads)
    placement = Placement(grid, each, owner=str(run_dir), strategy=resources.placement)
    at_end.callback(placement.release)
    return placement


def training_source(
    job: Job, splits: Splits, folders: Sequence[str] | None, at_end: ExitStack
) -> BatchSource:
    """Return what gives the batches: read here, or in processes of their own.

    Where blocks read, it gives the first one, to try the model with.

    folders: where these look for the user's modules. at_end: ends them.

    Raises JobError for data that cannot be read so.
    """
    settings = job.settings
    source = as_source(splits.train, settings.batch_size, settings.seed)
    if not settings.resources.data_workers:
        return source
    if isinstance(source, Stream):
        raise JobError(
            f"resources.data_workers: {settings.resources.data_workers}: an iterable is read "
            f"in its order, by one process; set it to 0, or give a map-style Dataset"
        )
    if settings.resources.sharded_reading:
        return source
    packed = pack(source, settings.working_dir, folders)
    parallel = ParallelSource(packed, settings.resources.data_workers, source.steps_per_epoch)
    at_end.callback(parallel.close)
    return parallel


def packed_shares(
    job: Job, source: BatchSource, folders: Sequence[str] | None
) -> PickledPayload | None:
    """Return what the first blocks of the replicas read; None where the coordinator reads."""
    settings = job.settings
    if not settings.resources.sharded_reading:
        return None
    shares = Shares(source, settings.batch_size, settings.microbatches, settings.replicas)
    return pack(shares, settings.working_dir, folders)


def packed_metrics(job: Job, folders: Sequence[str] | None) -> PickledPayload | None:
    """Return the task's metrics for the hosts of the head; None if they cannot be pickled."""
    try:
        return pack(dict(job.task.metrics), job.settings.working_dir, folders)
    except JobError:
        return None


def plan_for(job: Job, rule: LearningRule, trials: DataTrials, workers: Sequence[Worker]) -> Plan:
    """Measure the layers here, and cut the model for these workers.

    Raises JobError where a layer does not fit the data, or a worker its node's memory.
    """
    x, target = (tensor.to(device_here()) for tensor in trials.batch)
    grid = job.grid
    plan = make_plan(
        job.model,
        job.task.weighted_loss,
        rule,
        (x, target),
        grid.blocks,
        grid.replicas,
        trials.each,
    )
    resources, node = job.settings.resources, ray.get_runtime_context().get_node_id()
    plan = with_head_placed(
        plan, resources.head, grid.heads, workers, node, resources.coordinator_gpus
    )
    plan = plan.on(speeds(workers, grid))
    readers = resources.data_workers if resources.sharded_reading else 0
    schedule = resources.backward_schedule
    plan = replace(plan, kind=resources.kind, readers=readers, schedule=schedule)
    room = room_of_nodes()
    check_memory(plan, workers, room)
    return replace(plan, most_waiting=most_waiting(plan, workers, room))
