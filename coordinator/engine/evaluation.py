"""Loss and metrics of a model over a whole data set."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import Engine
from dfa_core import JobError
from dfa_core.loss import WeightedLoss
from dfa_core.scoring import PartMean, PartMeter, PartReport, number_of
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
        task, at_once = self._task, samples_at_once(self._task, data)
        means = {"loss": PartMean(is_loss=True)} | {name: PartMean() for name in task.metrics}
        whole: tuple[Tensor, Tensor] | None = None
        if task.global_metrics or self._of_all:
            whole = self._whole(data, at_once, means)
        else:
            for reports in self._engine.reports(data, at_once, task.metrics, self._seed):
                _add(means, reports)
        new = {name for name, mean in means.items() if mean.needs_all}
        if new and whole is None:
            whole = self._whole(data, at_once)
        self._of_all |= new
        values = {name: mean.value() for name, mean in means.items()}
        if whole is not None:
            no_means = {name: task.metrics[name] for name in values if means[name].needs_all}
            for name, of in {**no_means, **task.global_metrics}.items():
                values[name] = number_of(name, of, self._seed)(*whole)
        with drawing_from(self._seed):
            derived = {name: of(values["loss"]) for name, of in task.derived_metrics.items()}
        return values | derived

    def _whole(
        self, data: Dataset[Any], at_once: int, means: Mapping[str, PartMean] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return all outputs and targets; means: get the reports of the parts too."""
        meter, kept = PartMeter(self._engine.loss, self._task.metrics, self._seed), []
        for output, target in self._engine.outputs(data, at_once):
            if means is not None:
                _add(means, meter.report(output, target))
            kept.append((output, target))
        outputs, targets = (torch.cat(tensors) for tensors in zip(*kept, strict=True))
        return outputs, targets


def evaluate(
    engine: Engine, task: Task, data: Dataset[Any], seed: int, part: str = "test"
) -> dict[str, float]:
    """Return the scores of a single evaluation, as Evaluation.scores() does."""
    return Evaluation(engine, task, seed).scores(data, part)


def _add(means: Mapping[str, PartMean], reports: Mapping[str, PartReport]) -> None:
    for name, report in reports.items():
        means[name].add(report)


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
