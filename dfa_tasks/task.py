"""A task: a model, its head and loss, and the data; what errorcast can train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from dfa_core import Model
from dfa_core.head import Loss
from dfa_core.rule import ErrorAt

Metric = Callable[[Tensor, Tensor], Tensor]
GlobalMetric = Callable[[Tensor, Tensor], float]


class BatchSource(Protocol):
    """Training batches as a pure function of the step."""

    @property
    def steps_per_epoch(self) -> int:
        """Return how many steps one pass over the data takes."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of this step; the same step gives the same batch, always."""


@dataclass(frozen=True)
class Splits:
    """Training and test data: map-style torch datasets of (input, target), or a batch source.

    validation: what each epoch is evaluated on, where a run is to stop or to choose by it; without
        it, that is the test data.
    """

    train: Dataset[Any] | BatchSource
    test: Dataset[Any]
    validation: Dataset[Any] | None = None


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of samples whose largest output is the target class."""
    return (output.argmax(dim=-1) == target).float().mean()


@dataclass(frozen=True)
class Task:
    """Everything a run needs to know about what it trains.

    model: an nn.Sequential as it stands, or a dfa_core.Model of layer factories.
    loss: (head output, targets) -> mean loss over the samples given, a scalar.
    data: called in the process that feeds the pipeline, never in the workers; or the data itself.
    metrics: of the test data; each returns a mean over the samples given.
    global_metrics: of the test data; each returns a number for all outputs and targets at once.
    derived_metrics: what else is shown of the mean loss of data, e.g. {"perplexity": math.exp}.
    error_at: where the global error is taken, at the head's output or at its input.
    sample_dims: leading dimensions of the global error that count samples.
    full_batch: the samples belong together, as a graph's nodes: never cut, nor for an evaluation.
    evaluated_at_once: samples that an evaluation runs through the blocks together.
    files: texts that are kept beside the model, by name, e.g. a tokenizer.
    defaults: fields of the job spec that suit this task, e.g. {"epochs": 8}.
    fetch: called before the run starts, to download what is missing.
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

    def splits(self) -> Splits:
        """Load the data."""
        return self.data if isinstance(self.data, Splits) else self.data()


TaskMaker = Callable[..., Task]


@dataclass(frozen=True)
class Installed:
    """A task with a name: the function that makes it, and one line about it."""

    make: TaskMaker
    about: str
