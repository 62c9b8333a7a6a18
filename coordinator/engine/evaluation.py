"""Loss and metrics of a model over a whole data set."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import Engine
from dfa_core import JobError
from dfa_core.activations import described
from dfa_core.balance.trial import number
from dfa_core.errors import reason
from dfa_core.seeding import derive, drawing_from
from dfa_tasks import Task


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
    sums: dict[str, float] = {"loss": 0.0, **dict.fromkeys(task.metrics, 0.0)}
    samples, kept = 0, []
    for output, target in engine.outputs(data, samples_at_once(task, data)):
        samples += len(target)
        if task.global_metrics:
            kept.append((output, target))
        with drawing_from(seed):
            for name, measure in {"loss": task.loss, **task.metrics}.items():
                sums[name] += measured(name, measure, output, target) * len(target)
    whole = [torch.cat(tensors) for tensors in zip(*kept, strict=True)]
    means = {name: total / samples for name, total in sums.items()}
    with drawing_from(seed):
        global_metrics = {n: measured(n, of, *whole) for n, of in task.global_metrics.items()}
        derived = {name: of(means["loss"]) for name, of in task.derived_metrics.items()}
    return means | global_metrics | derived


def measured(
    name: str, measure: Callable[[Tensor, Tensor], object], output: Tensor, target: Tensor
) -> float:
    """Return what a loss or metric gives. Raises JobError when it fails or gives no number."""
    what = "the loss" if name == "loss" else f"the metric '{name}'"
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


def samples_at_once(task: Task, data: Dataset[Any]) -> int:
    """Return how many samples of the data to evaluate at once."""
    return len(data) if task.full_batch else task.evaluated_at_once  # type: ignore[arg-type]


def chunk_sizes(data: Dataset[Any], at_once: int) -> list[int]:
    """Return the number of samples of each chunk; the last one may be smaller."""
    full, rest = divmod(len(data), at_once)  # type: ignore[arg-type]
    return [at_once] * full + ([rest] if rest else [])
