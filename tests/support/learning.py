"""Trains a task in this process by the reference, whose bits the pipeline has."""

from typing import Any

from coordinator.job.resolve import resolve
from dfa_core import Reference
from dfa_tasks.source import as_source, chunks


def accuracy(task: str, **settings: Any) -> float:
    """Train a classifier; return its test accuracy in percent.

    settings: as those of `coordinator.train`.
    """
    job = resolve(task, settings)
    spec, splits = job.spec, job.task.splits()
    source = as_source(splits.train, spec.batch_size, spec.seed)
    rule = job.rule(source.steps_per_epoch)
    reference = Reference(job.model, job.task.loss, rule)
    for step in range(spec.epochs * source.steps_per_epoch):
        reference.train_step(step, *source.batch(step))
    measure, test = job.task.metrics["accuracy"], splits.test
    correct = sum(
        float(measure(reference.evaluate(x), target)) * len(target)
        for x, target in chunks(test, job.task.evaluated_at_once)
    )
    return 100 * correct / len(test)  # type: ignore[arg-type]
