"""A task is what errorcast can train: a model, its head and loss, and the data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from dfa_core import Model
from dfa_core.head import Loss
from dfa_core.rule import ErrorAt
from dfa_core.seeding import derive, drawing_from

Metric = Callable[[Tensor, Tensor], Tensor]
GlobalMetric = Callable[[Tensor, Tensor], float]


class BatchSource(Protocol):
    """Training batches as a pure function of the step."""

    @property
    def steps_per_epoch(self) -> int:
        """Return how many steps one pass over the data takes."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of a step; a step always has the same batch."""


@dataclass(frozen=True)
class Splits:
    """Training and test data: map-style torch datasets of (input, target), or a batch source.

    validation: data that each epoch is evaluated on, for early stopping and the choice of the best
        epoch. Without it, that is the test data.
    """

    train: Dataset[Any] | BatchSource
    test: Dataset[Any]
    validation: Dataset[Any] | None = None


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of samples whose largest output is the target class."""
    return (output.argmax(dim=-1) == target).float().mean()


@dataclass(frozen=True)
class Task:
    """All that a run needs to know about the model and the data that it trains.

    model: an nn.Sequential with its weights, or a dfa_core.Model of layer factories.
    loss: (head output, targets) -> mean loss over these samples, a scalar.
    data: the data, or a function that returns it; it is called in the coordinator's process only.
    metrics: for evaluations; each returns a mean over the samples it is given.
    global_metrics: for evaluations; each returns a number for all outputs and targets at once.
    derived_metrics: functions of the mean loss of an evaluation, e.g. {"perplexity": math.exp}.
    error_at: where the global error is taken: at the head's output or at its input.
    sample_dims: leading dimensions of the global error that count samples.
    full_batch: the samples belong together, like a graph's nodes; no batch and no evaluation cuts
        them.
    evaluated_at_once: number of samples that an evaluation sends through the blocks together.
    files: texts that are stored next to the model, by file name, e.g. a tokenizer.
    defaults: fields of the job spec that suit this task, e.g. {"epochs": 8}.
    fetch: downloads missing data; called before the run starts.
    code: SHA-256 of the user's file that the task is from; make_task() sets it.
    """

    model: Model | nn.Sequential
    loss: Loss
    data: Splits | Callable[[], Splits]
    metrics: Mapping[str, Metric] = field(default_factory=lambda: {"accuracy": accuracy})
    global_metrics: Mapping[str, GlobalMetric] = field(default_factory=dict)
    derived_metrics: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    error_at: ErrorAt = "output"
    sample_dims: int = 1
    full_batch: bool = False
    evaluated_at_once: int = 1024
    files: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fetch: Callable[[], None] | None = None
    name: str = "task"
    code: str = ""

    def splits(self, seed: int = 0) -> Splits:
        """Load the data; seed: of what it draws from global generators, e.g. in random_split()."""
        if isinstance(self.data, Splits):
            return self.data
        with drawing_from(derive(seed, "data")):
            return self.data()


TaskMaker = Callable[..., Task]


@dataclass(frozen=True)
class Installed:
    """A task with a name: the function that makes it, and one line about it."""

    make: TaskMaker
    about: str
