"""What happens in a run, as its followers see it: one class an event.

This module imports nothing but the standard library: the service's main process, which must not
load torch, uses it too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, get_args


@dataclass(frozen=True)
class PlanMade:
    """The partition of the model.

    layers: a row a layer, from the first: layer, features, parameters, cost_ms, block.
    head: the number of the head's weights; links: how tensors travel between the processes.
    """

    layers: Sequence[Mapping[str, Any]]
    head: int
    links: str


@dataclass(frozen=True)
class WorkersStarted:
    """The process ids of the workers, by number, and of the coordinator."""

    processes: Sequence[int]
    coordinator: int


@dataclass(frozen=True)
class Resumed:
    """The run starts from the checkpoint of a step."""

    step: int

    @property
    def message(self) -> str:
        """Return one line for people."""
        return f"resumed from the checkpoint of step {self.step}"


@dataclass(frozen=True)
class Noted:
    """Something that is worth knowing, such as where the first weights are from."""

    message: str


@dataclass(frozen=True)
class TrainingStarted:
    """Everything is ready; the next step is `step`, counted from 0, of `total`."""

    step: int
    total: int


@dataclass(frozen=True)
class Metrics:
    """The loss after `step` steps, the learning rate of that step, and its speed."""

    step: int
    loss: float
    lr: float
    samples_per_s: float


@dataclass(frozen=True)
class Evaluation:
    """The scores after `step` steps, on `data`: "validation" or "test"."""

    step: int
    epoch: int
    epochs: int
    data: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class CheckpointWritten:
    """The state after `step` steps is saved, in this folder."""

    step: int
    path: str


@dataclass(frozen=True)
class Warned:
    """Something is wrong that does not end the run."""

    message: str


@dataclass(frozen=True)
class Waiting:
    """The run waits for something outside of errorcast, for so long by now."""

    what: str
    seconds: float

    @property
    def message(self) -> str:
        """Return one line for people."""
        return f"waiting for {self.what}: {self.seconds:.0f} s so far"


@dataclass(frozen=True)
class FaultSeen:
    """A process died or hangs; a recovery follows."""

    message: str


@dataclass(frozen=True)
class Recovered:
    """The first step after a fault is done.

    seconds: from the fault to that step; step: from which the run continued; repeated: how
    many of the steps after it had been done before the fault.
    """

    seconds: float
    step: int
    repeated: int

    @property
    def message(self) -> str:
        """Return one line for people."""
        return (
            f"recovered in {self.seconds:.1f} s; {self.repeated} step(s) are repeated from step "
            f"{self.step}"
        )


@dataclass(frozen=True)
class RolledBack:
    """The run returned to an earlier step, from which the learning rate is lower.

    reason: which number was not finite, and where.
    """

    step: int
    rate: float
    reason: str

    @property
    def message(self) -> str:
        """Return one line for people."""
        return (
            f"{self.reason}; rolled back to step {self.step}, learning rate {self.rate:g} from "
            f"there"
        )


@dataclass(frozen=True)
class RateCut:
    """The loss has not fallen below `loss` for some epochs; the learning rate is `rate` now."""

    step: int
    rate: float
    loss: float

    @property
    def message(self) -> str:
        """Return one line for people."""
        return (
            f"the loss has not fallen below {self.loss:.4f}: the learning rate is now {self.rate:g}"
        )


@dataclass(frozen=True)
class Finished:
    """The run reached its end, or saved its state and stopped because it was asked to."""

    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """The run ended with an error; `job_is_wrong` when no retry can help."""

    message: str
    job_is_wrong: bool
    traceback: str


@dataclass(frozen=True)
class Progress:
    """How far the run is: a newer one replaces it.

    step: steps done, of `total`; samples: trained on; step_s: seconds, the median of the last
    steps; processes: a row a process of the newest segment, as Engine.loads() returns them.
    """

    step: int
    total: int
    samples: int
    loss: float
    step_s: float
    processes: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LinksAreSlow:
    """Messages between the nodes take so long that more microbatches have to wait."""

    message: str


Notice: TypeAlias = Warned | LinksAreSlow | Waiting | FaultSeen | Recovered | RolledBack | RateCut
Event: TypeAlias = (
    PlanMade
    | WorkersStarted
    | Resumed
    | Noted
    | TrainingStarted
    | Metrics
    | Evaluation
    | CheckpointWritten
    | Notice
    | Finished
    | Failed
)
Emit: TypeAlias = Callable[[Event | Progress], None]

_CLASSES = {kind.__name__: kind for kind in (*get_args(Event), Progress)}


def to_json(event: Event | Progress) -> dict[str, Any]:
    """Return an event as an object of JSON."""
    return {"kind": type(event).__name__, **asdict(event)}


def from_json(values: Mapping[str, Any]) -> Any:
    """Return the event that to_json() was given."""
    return _CLASSES[values["kind"]](**{k: v for k, v in values.items() if k != "kind"})
