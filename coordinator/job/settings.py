"""A job's settings with their types, meanings and defaults.

Decoded once from the JobSpec message, which stays the form of the wire and of job files. The fields
have the names and the order of job.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from errorcast.v1.job_pb2 import JobSpec

from coordinator.job.spec import Settings, to_settings

if TYPE_CHECKING:  # types only: a client reads settings without torch or Ray
    from dfa_core.exact_schedule import ExactSchedule
    from dfa_core.feedback.error_format import ErrorKind
    from dfa_core.feedback.matrix import Distribution
    from dfa_core.feedback.rules import FeedbackKind
    from dfa_core.optimizer import Schedule
    from dfa_core.precision import Precision
    from dfa_core.rule import Method
    from workers.grid import AskedPlace
    from workers.groups.transport import Transport
    from workers.placement import Strategy
    from workers.stage import BlockKind

NonFinite = Literal["stop", "skip", "roll_back"]


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer that each layer has of its own.

    name: a class of torch.optim, in any case.
    lr: learning rate before the schedule, above 0.
    options: other arguments of that class, e.g. {"momentum": 0.9}.
    clip_norm: largest gradient norm of one layer; 0 does not clip.
    schedule: how the learning rate changes with the step.
    warmup_steps: steps over which the rate first rises to lr.
    layer_options: arguments of single layers ("0", "1"...) and of the "head"; they override
        `options`.
    patience: for the plateau schedule: the rate is cut after this many epochs in a row without a
        lower loss.
    """

    name: str = "adam"
    lr: float = 1e-3
    options: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    layer_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    patience: int = 1


@dataclass(frozen=True)
class FeedbackSettings:
    """The feedback matrix of each layer, and how the error travels to it.

    kind: which matrix, and what it multiplies.
    distribution: of the entries of a random matrix.
    shared: one matrix serves all layers; each takes its first columns.
    scale: multiplies all entries, above 0.
    sent_as: number format of the error on the wire.
    keep: share of a row that sent_as=topk sends, above 0 and at most 1; rounded up.
    hops: later layers that the gradient of kind=identity also comes through.
    damping: what comes through a layer is multiplied by 1 - damping; from 0 to below 1.
    """

    kind: FeedbackKind = "random"
    distribution: Distribution = "uniform"
    shared: bool = False
    scale: float = 1.0
    sent_as: ErrorKind = "fp32"
    keep: float = 0.1
    hops: int = 0
    damping: float = 0.0


@dataclass(frozen=True)
class ResourceSettings:
    """What each worker gets, and how workers communicate.

    cpus: CPUs of a worker, whole or a fraction.
    gpus: GPUs of a worker, whole or a fraction; 0 trains on the CPU.
    threads: CPU threads of a worker; resolve() replaces 0 by the whole CPUs, at least 1.
    timeout_s: seconds without a sign of life after which a process counts as hung; slow work is not
        limited.
    placement: workers on as few nodes as possible (pack) or on as many (spread).
    coordinator_gpus: GPUs of the coordinator, whole or a fraction.
    transport: how tensors travel between workers; auto chooses nccl where every process has a GPU
        of its own.
    cuda_graphs: workers on GPUs capture the computation of a block and replay it.
    head: which process computes head and loss where no worker is for it alone; auto chooses the
        faster one.
    data_workers: processes that read the batches; 0 reads them in a thread of the coordinator.
    backward_schedule: the order of forwards and backward passes of method bp.
    sharded_reading: the first block of each replica reads its share, in data_workers processes.
    recompute: blocks keep the inputs alone of what waits, and compute its forwards again.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 0
    timeout_s: float = 60.0
    placement: Strategy = "pack"
    coordinator_gpus: float = 0.0
    transport: Literal["auto"] | Transport = "auto"
    cuda_graphs: bool = False
    head: AskedPlace = "auto"
    data_workers: int = 0
    recompute: bool = False
    sharded_reading: bool = False
    backward_schedule: ExactSchedule = "1f1b"

    @property
    def kind(self) -> BlockKind:
        """Return how blocks compute."""
        if self.cuda_graphs:
            return "graphed"
        return "recomputing" if self.recompute else "plain"


@dataclass(frozen=True)
class CheckpointSettings:
    """When and where the state is saved.

    every_steps: steps between checkpoints; 0 saves at the end of each epoch.
    keep: how many of the newest checkpoints are kept.
    path: a folder or an fsspec URL; empty means the run folder.
    """

    every_steps: int = 0
    keep: int = 2
    path: str = ""


@dataclass(frozen=True)
class FaultSettings:
    """How a run reacts to faults.

    snapshot_steps: fewest steps between two snapshots in the cluster's memory; 0 takes none.
    recoveries: the run fails after this many recoveries in a row without a new step.
    non_finite: what happens when a loss or a gradient is NaN or infinite.
    rate_factor: multiplies the learning rate at each rollback and at each plateau, between 0 and 1.
    """

    snapshot_steps: int = 20
    recoveries: int = 5
    non_finite: NonFinite = "stop"
    rate_factor: float = 0.5


@dataclass(frozen=True)
class StoppingSettings:
    """Which epoch's weights are the result of the job.

    metric: "loss" (lowest is best) or another metric of the evaluations (highest is best); empty
        takes the last epoch.
    patience: the job ends after this many epochs in a row without a better one; 0 trains them all.
    """

    metric: str = ""
    patience: int = 0


@dataclass(frozen=True)
class JobSettings:
    """All settings of a training job.

    task: an installed task, or `path/to/file.py:function`.
    options: arguments of the task's function, e.g. {"width": 256}.
    method: how the model learns.
    blocks: layer blocks, each in a worker of its own.
    microbatches: equal parts of a batch that flow through the blocks one after another.
    batch_size: samples in a step.
    epochs: passes over the training data.
    seed: of weights, feedback matrices, data order, dropout and all that the task's code draws;
        below 2**63.
    data_dir: folder of the data sets; empty means ERRORCAST_DATA, or a download.
    log_every: steps between logged losses.
    staleness: number of steps by which the layers' optimizers are late; 0 is exact.
    precision: number format that layers compute in.
    replicas: copies of every block, which share the microbatches.
    heads: workers of each replica that compute head and loss and nothing else, and share its
        microbatches; 0: the head is where resources.head says.
    activations: number format that layers pass on to one another.
    working_dir: folder in which the task's own code runs: relative paths in it start there. Empty
        means the folder in which the run is started.
    compiled: layers and head train by code that torch.compile makes.
    init: a safetensors file, or a folder with one, that a new run takes its first weights from.
    frozen: patterns of the names of weights that stay as they are.
    trackers: programs that get the run's metrics too: "wandb", "mlflow".
    ema: decay of a moving average of the weights, which evaluations use; 0: there is none.
    code: digest of uploaded code, for jobs of a service.
    """

    task: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    method: Method = "dfa"
    blocks: int = 2
    microbatches: int = 4
    batch_size: int = 64
    epochs: int = 10
    seed: int = 0
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    data_dir: str = ""
    log_every: int = 10
    staleness: int = 0
    faults: FaultSettings = field(default_factory=FaultSettings)
    stopping: StoppingSettings = field(default_factory=StoppingSettings)
    precision: Precision = "fp32"
    replicas: int = 1
    activations: Precision = "fp32"
    working_dir: str = ""
    heads: int = 0
    compiled: bool = False
    init: str = ""
    frozen: Sequence[str] = ()
    trackers: Sequence[str] = ()
    ema: float = 0.0
    code: str = ""


_GROUPS: Mapping[str, Any] = {
    "optimizer": OptimizerSettings,
    "feedback": FeedbackSettings,
    "resources": ResourceSettings,
    "checkpoint": CheckpointSettings,
    "faults": FaultSettings,
    "stopping": StoppingSettings,
}


def decode(spec: JobSpec) -> JobSettings:
    """Return the settings of a message; a field that is not set takes the default."""
    settings = to_settings(spec)
    groups = {name: group(**settings.pop(name)) for name, group in _GROUPS.items()}
    for name in ("frozen", "trackers"):
        settings[name] = tuple(settings[name])
    return JobSettings(**settings, **groups)


def _without_empty(settings: Mapping[str, Any]) -> Settings:
    """Return the settings without empty texts, lists and options, which a message lacks."""
    return {
        name: _without_empty(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value not in ("", {}, ())
    }


DEFAULTS: Settings = _without_empty(asdict(JobSettings()))
