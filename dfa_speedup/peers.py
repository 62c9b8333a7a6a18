"""What errorcast is measured against: torch's pipeline schedules, and runs without a pipeline.

Backpropagation on errorcast's own blocks is measured too: its users here lose nothing.

torch calls consecutive layers on one worker a stage. A worker hosts one stage (`one`), two that are
folded so that the first worker has the first and the last (`v`), or two and more, every K-th
(`loop`): the more there are, the shorter the bubble and the more messages.
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
    ScheduleLoopedBFS,
    ScheduleZBVZeroBubble,
    _PipelineSchedule,
)

from dfa_core import partition
from dfa_core.exact_schedule import ExactSchedule
from dfa_speedup.workload import Configuration, Workload

Order = Literal["one", "v", "loop"]


@dataclass(frozen=True)
class PipelinePeer:
    """One of torch.distributed.pipelining's schedules, as torch runs it."""

    schedule: type[_PipelineSchedule]
    order: Order = "one"
    compiled: bool = False

    def virtual_stages(self, layers: int, workers: int) -> Sequence[int]:
        """Return the numbers of stages a worker to try: the fewest, and as many as layers allow."""
        if self.order == "loop":
            return sorted({2, max(2, (layers + 1) // workers)})  # the head may be a stage
        return [1 if self.order == "one" else 2]

    def stages_of(self, worker: int, workers: int, virtual_stages: int) -> list[int]:
        """Return the stages that worker 0..K-1 hosts."""
        if self.order == "v":
            return [worker, 2 * workers - 1 - worker]
        return [worker + i * workers for i in range(virtual_stages)]

    def worker_of(self, stage: int, workers: int) -> int:
        """Return the worker that hosts a stage."""
        if self.order == "v" and stage >= workers:
            return 2 * workers - 1 - stage
        return stage % workers

    def refusal(
        self, layers: int, workers: int, microbatches: int, virtual_stages: int
    ) -> str | None:
        """Return why this peer cannot run a configuration, or None."""
        stages = workers * virtual_stages
        if self.compiled and self.schedule in _SPLIT_BACKWARD:
            return _NOT_COMPILED
        if layers + 1 < stages:  # the head may be a stage of its own
            return f"needs {stages} stages, the model has {layers} layers and a head"
        if self.schedule is Schedule1F1B and microbatches < stages:
            return f"needs at least {stages} microbatches, one a stage"
        if self.schedule is ScheduleDualPipeV and microbatches < stages:
            return f"needs at least {stages} microbatches"
        rounds = max(1, microbatches // workers)
        if self.schedule in _IN_ROUNDS and microbatches % rounds:
            return f"needs microbatches in equal rounds of about {workers}"
        return None


_IN_ROUNDS = (ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble)
_SPLIT_BACKWARD = (ScheduleInterleavedZeroBubble, ScheduleZBVZeroBubble, ScheduleDualPipeV)
_NOT_COMPILED = (
    "torch takes the backward pass apart in autograd's graph, which a compiled stage does not show "
    "(pytorch/torchtitan issue 3584)"
)
_WHOLE = "the batch stays whole (a full graph), and replicas would have to cut it"

EAGER_PIPELINES = {
    "GPipe": PipelinePeer(ScheduleGPipe),
    "1F1B": PipelinePeer(Schedule1F1B),
    "looped BFS": PipelinePeer(ScheduleLoopedBFS, "loop"),
    "interleaved 1F1B": PipelinePeer(ScheduleInterleaved1F1B, "loop"),
    "interleaved zero bubble": PipelinePeer(ScheduleInterleavedZeroBubble, "loop"),
    "ZBV zero bubble": PipelinePeer(ScheduleZBVZeroBubble, "v"),
    "DualPipeV": PipelinePeer(ScheduleDualPipeV, "v"),
}
COMPILED_PIPELINES = {
    "compiled 1F1B": PipelinePeer(Schedule1F1B, compiled=True),
    "compiled interleaved 1F1B": PipelinePeer(ScheduleInterleaved1F1B, "loop", compiled=True),
    "compiled ZBV zero bubble": PipelinePeer(ScheduleZBVZeroBubble, "v", compiled=True),
}
PIPELINES = EAGER_PIPELINES | COMPILED_PIPELINES
DDP = "DDP"
FSDP2 = "FSDP2"
DATA_PARALLEL = (DDP, FSDP2)
ONE_PROCESS = "one process"
COMPILED_ONE_PROCESS = "compiled one process"
ERRORCAST = "errorcast"


@dataclass(frozen=True)
class OwnBackward:
    """Backpropagation on errorcast's own blocks and links; see LearningRule for staleness."""

    schedule: ExactSchedule
    staleness: int = 0


DELAYED = "errorcast bp, delayed"
OWN_BACKWARD = {
    "errorcast bp, 1F1B": OwnBackward("1f1b"),
    "errorcast bp, zero bubble": OwnBackward("zero_bubble"),
    DELAYED: OwnBackward("1f1b", staleness=1),
}
COMPILED_ERRORCAST = "compiled errorcast"
OWN: Sequence[str] = (ERRORCAST, *OWN_BACKWARD)
OWN_SIDES = (*OWN, COMPILED_ERRORCAST)  # also those that run only where asked for
PEERS: Sequence[str] = (*EAGER_PIPELINES, *DATA_PARALLEL, ONE_PROCESS)
COMPILED_PEERS: Sequence[str] = (COMPILED_ERRORCAST, *COMPILED_PIPELINES, COMPILED_ONE_PROCESS)

# also measured: a DFA step without a pipeline, and the compute alone by either method
ONE_PROCESS_DFA = "one process, DFA"
LIMIT_DFA = "limit, DFA"
LIMIT_DFA_LOADED = "limit, DFA, on every worker at once"
LIMIT_BP = "limit, backpropagation"
_UNCUT = (*DATA_PARALLEL, ONE_PROCESS, COMPILED_ONE_PROCESS, ONE_PROCESS_DFA)


def configurations(
    schedule: str, workload: Workload, workers: int, microbatches: Sequence[int]
) -> list[Configuration]:
    """Return what a side tries, to continue with the fastest: each M with each number of stages."""
    if schedule in _UNCUT:  # these are slower with more, unless memory is short
        return [Configuration(schedule, m) for m in sorted({1, min(microbatches)})]
    peer, layers = PIPELINES.get(schedule), len(workload.model.layers)
    stages = [1] if peer is None else peer.virtual_stages(layers, workers)
    return [Configuration(schedule, m, v) for m in microbatches for v in stages]


def refusal(workload: Workload, configuration: Configuration, blocks: int) -> str | None:
    """Return why a side cannot run a configuration on K workers, or None."""
    m, layers = configuration.microbatches, len(workload.model.layers)
    if workload.batch_size % m:
        return f"{m} microbatches do not divide the batch of {workload.batch_size}"
    peer = PIPELINES.get(configuration.schedule)
    if peer is not None:
        if blocks == 1:
            return "a pipeline needs 2 workers"
        return peer.refusal(layers, blocks, m, configuration.virtual_stages)
    if configuration.schedule in DATA_PARALLEL:
        if blocks == 1:
            return "needs 2 workers"
        if workload.uncut:
            return _WHOLE
        if workload.batch_size % (blocks * m):
            return f"{blocks} replicas of {m} microbatches do not divide {workload.batch_size}"
    return None


def bytes_per_step(workload: Workload, configuration: Configuration, blocks: int) -> int:
    """Return the bytes that all workers of a peer send in a step.

    A pipeline sends each activation forward and its gradient back wherever two stages are on
    different workers; data parallelism passes the gradients of the weights round a ring, and FSDP2
    gathers the weights for each forward and each backward pass, too.
    """
    peer = PIPELINES.get(configuration.schedule)
    if peer is not None:
        stages = blocks * configuration.virtual_stages
        between = 0
        for stage, (_, last) in enumerate(stage_ranges(workload, stages)[:-1]):
            if peer.worker_of(stage, blocks) != peer.worker_of(stage + 1, blocks):
                between += workload.profile_of_backpropagation.between[last].bytes
        return 2 * between * workload.batch_size
    passed_on = (blocks - 1) * 4 * workload.profile.parameters  # all of them to each other worker
    if configuration.schedule == DDP:
        return 2 * passed_on
    if configuration.schedule == FSDP2:
        return (2 * configuration.microbatches + 1) * passed_on
    return 0


def stage_ranges(workload: Workload, stages: int) -> list[tuple[int, int]]:
    """Cut layers and head (the layer after the last) into balanced stages.

    Raises JobError when there are too few layers.
    """
    return partition([*workload.costs, workload.profile.head_seconds], stages)
