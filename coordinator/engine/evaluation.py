"""Loss and metrics of a model over a whole data set."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import Engine
from dfa_core import JobError
from dfa_core.loss import WeightedLoss
from dfa_core.scoring import PartMean, PartReport, number_of, reports_of
from dfa_core.seeding import derive, drawing_from
from dfa_tasks import Splits, Task

_WAY_OUT = "give the Task a loss_weight (targets -> the denominator of the loss's mean)"


class Evaluation:
    """Loss and metrics of a run's model, each a mean over all samples, and the global metrics.

    Means are measured where the head's outputs are. A metric that is no mean over parts, which the
    first evaluation shows, and the global metrics get all outputs at once.
    """

    def __init__(self, engine: Engine, task: Task, seed: int) -> None:
        """seed: of what measures draw from global generators, e.g. to break ties."""
        self._engine, self._task, self._seed = engine, task, derive(seed, "scores")
        self._of_all: set[str] = set()  # metrics that are no means

    def scores(self, data: Dataset[Any], part: str = "test") -> dict[str, float]:
        """Return all scores of the data; part: of the data, for messages.

        Raises JobError when samples, outputs and metrics do not fit each other.
        """
        try:
            return self._scores(data)
        except JobError as error:
            raise JobError(f"the {part} data: {error}") from error

    def _scores(self, data: Dataset[Any]) -> dict[str, float]:
        engine, task, seed = self._engine, self._task, self._seed
        at_once, kept = samples_at_once(task, data), list[tuple[Tensor, Tensor]]()
        if task.global_metrics or self._of_all:
            kept = list(engine.outputs(data, at_once))
            parts: Iterator[Mapping[str, PartReport]]
            parts = reports_of(kept, engine.loss, task.metrics, seed)
        else:
            parts = engine.reports(data, at_once, task.metrics, seed)
        means = {"loss": PartMean(is_loss=True)} | {name: PartMean() for name in task.metrics}
        for reports in parts:
            for name, report in reports.items():
                means[name].add(report)
        no_means = {name for name, mean in means.items() if mean.needs_all}
        self._of_all |= no_means
        values = {name: mean.value() for name, mean in means.items()}
        of_all = {name: task.metrics[name] for name in no_means} | dict(task.global_metrics)
        if of_all:
            kept = kept or list(engine.outputs(data, at_once))
            whole = [torch.cat(tensors) for tensors in zip(*kept, strict=True)]
            values |= {name: number_of(name, of, seed)(*whole) for name, of in of_all.items()}
        with drawing_from(seed):
            derived = {name: of(values["loss"]) for name, of in task.derived_metrics.items()}
        return values | derived


def evaluate(
    engine: Engine, task: Task, data: Dataset[Any], seed: int, part: str = "test"
) -> dict[str, float]:
    """Return the scores of a single evaluation, as Evaluation.scores() does."""
    return Evaluation(engine, task, seed).scores(data, part)


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


def samples_at_once(task: Task, data: Dataset[Any]) -> int:
    """Return how many samples of the data to evaluate at once."""
    return len(data) if task.full_batch else task.evaluated_at_once  # type: ignore[arg-type]
