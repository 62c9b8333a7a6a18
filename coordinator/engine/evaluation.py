"""Loss and metrics of a model over a whole data set."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import Engine
from coordinator.engine.part_means import Measure, PartMean
from dfa_core import JobError
from dfa_core.activations import described
from dfa_core.balance.trial import number
from dfa_core.errors import reason
from dfa_core.input_guard import InputGuard
from dfa_core.loss import WeightedLoss
from dfa_core.seeding import derive, drawing_from
from dfa_tasks import Splits, Task
from dfa_tasks.task import GlobalMetric, Metric

_WAY_OUT = "give the Task a loss_weight (targets -> the denominator of the loss's mean)"


def evaluate(
    engine: Engine, task: Task, data: Dataset[Any], seed: int, part: str = "test"
) -> dict[str, float]:
    """Return loss and metrics, each a mean over all samples, and the task's global metrics.

    seed: of what they draw from global generators, e.g. to break ties.
    part: of the data, for messages.

    Raises JobError when samples, outputs and metrics do not fit each other.
    """
    try:
        return _scores(engine, task, data, derive(seed, "scores"))
    except JobError as error:
        raise JobError(f"the {part} data: {error}") from error


def _scores(engine: Engine, task: Task, data: Dataset[Any], seed: int) -> dict[str, float]:
    means = {"loss": PartMean(_number("loss", task.loss), engine.loss, is_loss=True)}
    means |= {name: PartMean(_number(name, of), engine.loss) for name, of in task.metrics.items()}
    kept = []
    for output, target in engine.outputs(data, samples_at_once(task, data)):
        with drawing_from(seed):
            for mean in means.values():
                mean.add(output, target)
        if task.global_metrics or any(mean.at_once for mean in means.values()):
            kept.append((output, target))
        else:
            kept.clear()
    whole = [torch.cat(tensors) for tensors in zip(*kept, strict=True)]
    with drawing_from(seed):
        values = {name: mean.value(*whole) for name, mean in means.items()}
        global_metrics = {n: _number(n, of)(*whole) for n, of in task.global_metrics.items()}
        derived = {name: of(values["loss"]) for name, of in task.derived_metrics.items()}
    return values | global_metrics | derived


def _number(name: str, measure: Metric | GlobalMetric) -> Measure:
    """Return a measure that gives a number, and leaves outputs and targets to the next one."""
    guard = InputGuard(f"the metric '{name}'")

    def number_of(output: Tensor, target: Tensor) -> float:
        with guard.given((output, target)) as own:
            return measured(name, measure, *own)

    return number_of


def check_parts(loss: WeightedLoss, task: Task, splits: Splits, microbatches: int) -> None:
    """Check that the loss of what is cut into parts is the mean of theirs.

    Raises JobError if microbatches, or the parts of an evaluation, do not give the loss.
    """
    if not loss.flaw:
        return
    if microbatches > 1:
        raise JobError(
            f"microbatches: {microbatches}: the loss of a batch is not the mean of those of its "
            f"microbatches: {loss.flaw}; {_WAY_OUT}, or set microbatches to 1"
        )
    for data in (splits.test, splits.validation):
        samples = 0 if data is None else len(data)  # type: ignore[arg-type]
        if data is not None and samples > samples_at_once(task, data):
            raise JobError(
                f"evaluated_at_once: {samples_at_once(task, data)} of {samples} samples: the loss "
                f"of the data is not the mean of those of its parts: {loss.flaw}; {_WAY_OUT}, or "
                f"evaluated_at_once={samples}"
            )


def measured(
    name: str, measure: Callable[[Tensor, Tensor], object], output: Tensor, target: Tensor
) -> float:
    """Return what a loss or metric gives. Raises JobError when it fails or gives no number."""
    what = named(name)
    try:
        value: Any = measure(output, target)
    except JobError:
        raise
    except Exception as error:
        raise JobError(
            f"{what} fails on outputs of {described([output])} and targets of "
            f"{described([target])}: {reason(error)}"
        ) from error
    return number(value, what)


def named(name: str) -> str:
    """Return what messages call a loss or metric."""
    return "the loss" if name == "loss" else f"the metric '{name}'"


def samples_at_once(task: Task, data: Dataset[Any]) -> int:
    """Return how many samples of the data to evaluate at once."""
    return len(data) if task.full_batch else task.evaluated_at_once  # type: ignore[arg-type]


def chunk_sizes(data: Dataset[Any], at_once: int) -> list[int]:
    """Return the number of samples of each chunk; the last one may be smaller."""
    full, rest = divmod(len(data), at_once)  # type: ignore[arg-type]
    return [at_once] * full + ([rest] if rest else [])
