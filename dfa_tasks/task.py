"""A task is what errorcast can train: a model, its head and loss, and the data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from dfa_core import JobError, Model, as_model
from dfa_core.loss import Loss, LossWeight, WeightedLoss
from dfa_core.model import LayersOf
from dfa_core.rule import ErrorAt
from dfa_core.seeding import derive, drawing_from
from dfa_tasks.callback import Callback, check_callbacks
from dfa_tasks.hugging_face.model import TransformersModel, cut, is_transformers

Metric = Callable[[Tensor, Tensor], Tensor]
GlobalMetric = Callable[[Tensor, Tensor], float]

_BY_LOSS: Mapping[str, Metric] = {}  # a task that gives no metrics


class BatchSource(Protocol):
    """Training batches as a pure function of the step."""

    @property
    def steps_per_epoch(self) -> int:
        """Return how many steps one pass over the data takes."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of a step; a step always has the same batch."""


@dataclass(frozen=True)
class Splits:
    """Training and test data: torch data sets of (input, target) pairs.

    train: a map-style or iterable data set, or a batch source.
    test: a map-style data set.
    validation: a map-style data set that each epoch is evaluated on, for early stopping and the
        choice of the best epoch. None: the test data is used.
    """

    train: Dataset[Any] | IterableDataset[Any] | BatchSource
    test: Dataset[Any]
    validation: Dataset[Any] | None = None


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of samples whose largest output is the target class.

    output: (samples..., classes), at least two classes; target: the class of each, (samples...).

    Raises JobError for other shapes: they would be compared wrongly.
    """
    if output.shape[:-1] != target.shape or output.shape[-1:].numel() < 2:
        raise JobError(
            f"the default metric, accuracy, needs an output for each class and one class for each "
            f"sample, not outputs of {tuple(output.shape)} and targets of {tuple(target.shape)}; "
            f"give the task metrics={{...}}, with dfa_tasks.binary_accuracy for one logit a "
            f"sample, or {{}} for none"
        )
    return (output.argmax(dim=-1) == target).float().mean()


def binary_accuracy(logit: Tensor, target: Tensor) -> Tensor:
    """Return the share of yes-or-no targets that the signs of the logits predict.

    logit, target: of one shape, or one of them with a last dimension of 1 more; target: 0 or 1.

    Raises JobError for other shapes.
    """
    flat = [t.squeeze(-1) if t.shape[-1:] == (1,) and t.dim() > 1 else t for t in (logit, target)]
    if flat[0].shape != flat[1].shape:
        raise JobError(
            f"binary_accuracy needs one logit for each target, not outputs of "
            f"{tuple(logit.shape)} and targets of {tuple(target.shape)}"
        )
    return ((flat[0] > 0) == (flat[1] > 0.5)).float().mean()


def _metrics_for(loss: Loss) -> Mapping[str, Metric]:
    """Return the metrics of a task that gives none: the accuracy that fits what its loss reads."""
    loss = loss.func if isinstance(loss, partial) else loss
    of_logits = loss is nn.functional.binary_cross_entropy_with_logits
    binary = of_logits or isinstance(loss, nn.BCEWithLogitsLoss)
    return {"accuracy": binary_accuracy if binary else accuracy}


@dataclass(frozen=True)
class Task:
    """What a run trains: a model, its loss and its data.

    model: an nn.Sequential with its weights; a model of the transformers library; any other module,
        with layers_of; or a dfa_core.Model of layer factories. The task holds it as a Model.
    layers_of: a function that takes the module and returns its layers in forward order, and last
        its head. Chained, they must compute what the module computes; errorcast checks this before
        the first step.
    loss: a function of (head output, targets) that returns the mean loss over these samples, a
        scalar.
    loss_weight: a function of the targets that returns the denominator of that mean, in any unit:
        the weight of these samples in the mean over a whole batch. By default errorcast finds it
        before the first step; give it if errorcast asks for it.
    data: the data, or a function that returns it. The function is called only in the coordinator's
        process.
    metrics: functions of (head outputs, targets) for evaluations, by name; each returns a mean over
        the samples. Without any, it is the accuracy: of classes, or of single logits if the loss is
        binary cross-entropy with logits.
    global_metrics: functions of all outputs and targets of an evaluation at once, by name; each
        returns a number.
    derived_metrics: functions of the mean loss of an evaluation, such as {"perplexity": math.exp}.
    error_at: where the global error is taken: at the head's output or at its input.
    sample_dims: number of leading dimensions of the global error that count samples.
    full_batch: whether the samples belong together, as the nodes of a graph do. No batch and no
        evaluation is then cut.
    evaluated_at_once: number of samples that an evaluation sends through the blocks together.
    files: texts that are stored next to the model, by file name, such as a tokenizer.
    defaults: fields of the job that suit this task, such as {"epochs": 8}.
    fetch: a function that downloads missing data; it is called before the run starts.
    name: name of the task in messages and titles.
    code: SHA-256 of your file that the task comes from; make_task() sets it.
    callbacks: your own code that a run calls while it trains.
    remedies: for a kind of feedback that this model cannot learn by as it is, the setting to change
        for it, such as {"sign": "options.cross_error=false"}; error messages name it.
    cut_from: the module that `layers_of` has cut; the task sets it.

    The blocks of a transformers model learn by identity feedback, with the error taken at the
    head's input, unless `defaults` name another feedback.
    """

    model: Model | nn.Module
    loss: Loss
    data: Splits | Callable[[], Splits]
    metrics: Mapping[str, Metric] = field(default_factory=lambda: _BY_LOSS)
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
    loss_weight: LossWeight | None = None
    layers_of: LayersOf | None = None
    cut_from: nn.Module | None = field(default=None, repr=False)
    callbacks: Sequence[Callback] = ()
    remedies: Mapping[str, str] = field(default_factory=dict)

    @property
    def weighted_loss(self) -> Loss:
        """Return the loss, with the weight of its mean if the task gives one."""
        return self.loss if self.loss_weight is None else WeightedLoss(self.loss, self.loss_weight)

    def __post_init__(self) -> None:
        if self.metrics is _BY_LOSS:
            object.__setattr__(self, "metrics", _metrics_for(self.loss))
        object.__setattr__(self, "callbacks", check_callbacks(self.callbacks))
        if self.layers_of is not None and not isinstance(self.model, Model):
            object.__setattr__(self, "cut_from", self.model)
            object.__setattr__(self, "model", as_model(self.model, self.layers_of))
        elif not isinstance(self.model, Model) and is_transformers(self.model):
            object.__setattr__(self, "model", cut(self.model))
        if isinstance(self.model, TransformersModel):
            self._learn_by_identity()

    def _learn_by_identity(self) -> None:
        """Take the error where the residual stream ends, unless the task wants other feedback."""
        feedback = {"kind": "identity", **self.defaults.get("feedback", {})}
        if feedback["kind"] == "identity":
            object.__setattr__(self, "defaults", {**self.defaults, "feedback": feedback})
            object.__setattr__(self, "error_at", "input")
            object.__setattr__(self, "sample_dims", 2)

    def splits(self, seed: int = 0) -> Splits:
        """Load the data; seed: of what it draws from global generators, e.g. in random_split().

        Raises JobError when the task's function fails or returns no Splits.
        """
        splits = self.data if isinstance(self.data, Splits) else self._loaded(self.data, seed)
        if not isinstance(splits, Splits):
            raise JobError(
                f"the data of task '{self.name}' is a {type(splits).__name__}; it must be "
                f"dfa_tasks.Splits(train, test)"
            )
        return splits

    def _loaded(self, load: Callable[[], Splits], seed: int) -> Splits:
        try:
            with drawing_from(derive(seed, "data")):
                return load()
        except JobError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise JobError(f"the data of task '{self.name}' failed: {what}") from error


TaskMaker = Callable[..., Task]


@dataclass(frozen=True)
class Installed:
    """A task with a name: the function that makes it, and one line about it."""

    make: TaskMaker
    about: str
