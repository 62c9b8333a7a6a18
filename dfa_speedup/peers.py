"""What errorcast is measured against: torch's pipeline schedules, and runs without a pipeline.

Backpropagation on errorcast's own blocks stands beside them: who trains by it here loses nothing.

torch calls consecutive layers on one worker a stage. A worker hosts one stage, or two: either every
K-th (`loop`), or folded so that the first worker has the first and the last (`v`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch.distributed.pipelining.schedules import (
    Schedule1F1B,
    ScheduleDualPipeV,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
    _PipelineSchedule,
)

from dfa_core import partition
from dfa_core.exact_schedule import ExactSchedule
from dfa_speedup.workload import Configuration, Workload

Order = Literal["loop", "v"]


@dataclass(frozen=True)
class PipelinePeer:
    """One of torch.distributed.pipelining's schedules, as torch runs it."""

    schedule: type[_PipelineSchedule]
    stages_a_worker: int = 1
    order: Order = "loop"

    def stages_of(self, worker: int, workers: int) -> list[int]:
        """Return the stages that worker 0..K-1 hosts."""
        if self.order == "v":
            return [worker, 2 * workers - 1 - worker]
        return [worker + i * workers for i in range(self.stages_a_worker)]

    def worker_of(self, stage: int, workers: int) -> int:
        """Return the worker that hosts a stage."""
        if self.order == "v" and stage >= workers:
            return 2 * workers - 1 - stage
        return stage % workers

    def refusal(self, layers: int, workers: int, microbatches: int) -> str | None:
        """Return why this peer cannot run a configuration, or None."""
        stages = workers * self.stages_a_worker
        if layers + 1 < stages:  # the head may be a stage of its own
            return f"needs {stages} stages, the model has {layers} layers and a head"
        if self.schedule is ScheduleDualPipeV and microbatches < stages:
            return f"needs at least {stages} microbatches"
        rounds = max(1, microbatches // workers)
        if self.stages_a_worker > 1 and self.order == "loop" and microbatches % rounds:
            return f"needs microbatches in equal rounds of about {workers}"
        return None


PIPELINES = {
    "GPipe": PipelinePeer(ScheduleGPipe),
    "1F1B": PipelinePeer(Schedule1F1B),
    "interleaved 1F1B": PipelinePeer(ScheduleInterleaved1F1B, 2),
    "interleaved zero bubble": PipelinePeer(ScheduleInterleavedZeroBubble, 2),
    "ZBV zero bubble": PipelinePeer(ScheduleZBVZeroBubble, 2, "v"),
    "DualPipeV": PipelinePeer(ScheduleDualPipeV, 2, "v"),
}
DATA_PARALLEL = "DistributedDataParallel"
ONE_PROCESS = "one process"
ERRORCAST = "errorcast"


@dataclass(frozen=True)
class OwnBackward:
    """Backpropagation on errorcast's own blocks and links; see LearningRule for staleness."""

    schedule: ExactSchedule
    staleness: int = 0


OWN_BACKWARD = {
    "errorcast bp, 1F1B": OwnBackward("1f1b"),
    "errorcast bp, zero bubble": OwnBackward("zero_bubble"),
    "errorcast bp, delayed": OwnBackward("1f1b", staleness=1),
}
OWN: Sequence[str] = (ERRORCAST, *OWN_BACKWARD)
PEERS: Sequence[str] = (*PIPELINES, DATA_PARALLEL, ONE_PROCESS)

# also measured: a DFA step without a pipeline, and the compute alone by either method
ONE_PROCESS_DFA = "one process, DFA"
LIMIT_DFA = "limit, DFA"
LIMIT_DFA_LOADED = "limit, DFA, on every worker at once"
LIMIT_BP = "limit, backpropagation"


def refusal(workload: Workload, configuration: Configuration, blocks: int) -> str | None:
    """Return why a side cannot run a configuration on K workers, or None."""
    m, layers = configuration.microbatches, len(workload.model.layers)
    if workload.batch_size % m:
        return f"{m} microbatches do not divide the batch of {workload.batch_size}"
    peer = PIPELINES.get(configuration.schedule)
    if peer is not None:
        return "a pipeline needs 2 workers" if blocks == 1 else peer.refusal(layers, blocks, m)
    if configuration.schedule == DATA_PARALLEL:
        if blocks == 1:
            return "needs 2 workers"
        if workload.batch_size % (blocks * m):
            return f"{blocks} replicas of {m} microbatches do not divide {workload.batch_size}"
    return None


def bytes_per_step(workload: Workload, configuration: Configuration, blocks: int) -> int:
    """Return the bytes that all workers of a peer send in a step.

    A pipeline sends each activation forward and its gradient back wherever two stages are on
    different workers; data parallelism passes the gradients of the weights round a ring.
    """
    peer = PIPELINES.get(configuration.schedule)
    if peer is not None:
        stages = blocks * peer.stages_a_worker
        between = 0
        for stage, (_, last) in enumerate(stage_ranges(workload, stages)[:-1]):
            if peer.worker_of(stage, blocks) != peer.worker_of(stage + 1, blocks):
                between += workload.profile.between[last].bytes
        return 2 * between * workload.batch_size
    if configuration.schedule == DATA_PARALLEL:
        return 2 * (blocks - 1) * 4 * workload.profile.parameters
    return 0


def stage_ranges(workload: Workload, stages: int) -> list[tuple[int, int]]:
    """Cut layers and head (the layer after the last) into balanced stages.

    Raises JobError when there are too few layers.
    """
    return partition([*workload.costs, workload.profile.head_seconds], stages)
