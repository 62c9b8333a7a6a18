"""Loss and metrics of a model over a whole data set."""

from typing import Any

import torch
from torch.utils.data import Dataset

from coordinator.engine.base import Engine
from dfa_core.seeding import derive, drawing_from
from dfa_tasks import Task


def evaluate(engine: Engine, task: Task, data: Dataset[Any], seed: int) -> dict[str, float]:
    """Return loss and metrics, each a mean over all samples, and the task's global metrics.

    seed: of what they draw from global generators, e.g. to break ties.
    """
    sums: dict[str, float] = {"loss": 0.0, **dict.fromkeys(task.metrics, 0.0)}
    samples, kept = 0, []
    for output, target in engine.outputs(data, samples_at_once(task, data)):
        samples += len(target)
        if task.global_metrics:
            kept.append((output, target))
        with drawing_from(derive(seed, "scores")):
            for name, measure in {"loss": task.loss, **task.metrics}.items():
                sums[name] += float(measure(output, target)) * len(target)
    whole = [torch.cat(tensors) for tensors in zip(*kept, strict=True)]
    means = {name: total / samples for name, total in sums.items()}
    with drawing_from(derive(seed, "scores")):
        global_metrics = {name: of(*whole) for name, of in task.global_metrics.items()}
        derived = {name: of(means["loss"]) for name, of in task.derived_metrics.items()}
    return means | global_metrics | derived


def samples_at_once(task: Task, data: Dataset[Any]) -> int:
    """Return how many samples of the data to evaluate at once."""
    return len(data) if task.full_batch else task.evaluated_at_once  # type: ignore[arg-type]


def chunk_sizes(data: Dataset[Any], at_once: int) -> list[int]:
    """Return the number of samples of each chunk; the last one may be smaller."""
    full, rest = divmod(len(data), at_once)  # type: ignore[arg-type]
    return [at_once] * full + ([rest] if rest else [])
