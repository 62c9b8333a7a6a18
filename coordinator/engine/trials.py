"""Sees before the first step that model, loss and metrics take each part of the data.

A few samples of each part run through all of them once. A part that has another form than the
training data, such as images of another size, is fine as long as the model takes it.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from coordinator.engine.broadcasting import compares_all_pairs
from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import samples_at_once
from dfa_core import JobError, Model
from dfa_core.activations import described
from dfa_core.balance.same_output import check_same_output
from dfa_core.balance.trial import Trial
from dfa_core.scoring import measured, named
from dfa_core.seeding import derive, drawing_from
from dfa_tasks import Splits, Task
from dfa_tasks.source import check_evaluated, pick, tensors_of

_SAMPLES = 16  # of each part
_MOST_NUMBERS = 50_000_000  # of all outputs of a part, on which global metrics are tried
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


class DataTrials:
    """Samples of all parts of the data, which the engine sends through the model.

    batch: the whole batch of step 0. each: the training data's first microbatch, then the others.
    """

    def __init__(self, task: Task, splits: Splits, prefetcher: Prefetcher, seed: int) -> None:
        """prefetcher: of the training data; seed: of what samples, loss and metrics draw.

        Raises JobError for a part that has no samples, or whose samples fail.
        """
        self._task, self._evaluated, self._seed = task, _evaluated(splits), seed
        for part, data in self._evaluated.items():
            check_evaluated(data, part)
        self.batch = prefetcher.batch(0)
        self.each = [Trial("training", *self._first_microbatch(splits, prefetcher.samples))]
        for part, data in self._evaluated.items():
            at_once = samples_at_once(task, data)
            chosen = _spread(data, at_once if task.full_batch else min(at_once, _SAMPLES))
            samples = self._picked(data, part, chosen)
            self.each.append(Trial(part, *samples, trained_on=self.each[0].form))

    def check_cut(self, model: Model) -> None:
        """Raise JobError where a model, cut from a module, computes something else than it did."""
        if self._task.cut_from is not None:
            check_same_output(model, self._seed, self._task.cut_from, self.batch[0])

    def _first_microbatch(self, splits: Splits, samples: int) -> tuple[Tensor, Tensor]:
        """Return the first microbatch, in which the extremes take the places of other samples."""
        x, target = self.batch
        extremes = _extremes(splits.train)
        if extremes:
            first, of_first = self._picked(splits.train, "training", torch.tensor(extremes))
            x, target = torch.cat([first, x]), torch.cat([of_first, target])
        most = max(samples, len(extremes))
        return x[:most], target[:most]

    def _picked(self, data: Any, part: str, indices: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return pick(data, indices, derive(self._seed, "evaluated"))
        except JobError as error:
            raise JobError(f"the {part} data: {error}") from error

    def check_scores(self) -> list[str]:
        """Compute loss and metrics of the samples, which have run; return warnings.

        Raises JobError, which names the part of the data, when one of them fails.
        """
        warnings: list[str] = []
        for trial in self.each:
            try:
                with drawing_from(derive(self._seed, "scores")):
                    warnings += self._check(trial)
            except JobError as error:
                raise trial.refused(error) from error
        return warnings

    def _check(self, trial: Trial) -> list[str]:
        _check_means(self._task, trial, trial.output, trial.target.cpu())
        if trial.trains:
            return []
        return _check_global(self._task, trial, trial.output, self._evaluated[trial.part])


def _evaluated(splits: Splits) -> dict[str, Dataset[Any]]:
    """Return the parts of the data that a run is evaluated on, by name."""
    validation = {} if splits.validation is None else {"validation": splits.validation}
    return {**validation, "test": splits.test}


def _spread(data: Dataset[Any], most: int) -> Tensor:
    """Return the indices of at most this many samples from all over the data."""
    samples = len(data)  # type: ignore[arg-type]
    if samples <= most:
        return torch.arange(samples)
    extremes = _extremes(data)[:most]
    even = torch.linspace(0, samples - 1, most - len(extremes)).long()
    return torch.tensor(sorted({*even.tolist(), *extremes}))


def _extremes(data: object) -> list[int]:
    """Return the samples with the least and the greatest number of inputs and of targets.

    Only of integers that are in memory: a class or a word that the model lacks is one of these.
    """
    indices = torch.as_tensor(data.indices) if isinstance(data, Subset) else None
    held = tensors_of(data.dataset if isinstance(data, Subset) else data)
    found: list[int] = []
    for tensor in held or ():
        if tensor.dtype in _INTEGERS and tensor.numel():
            own = tensor if indices is None else tensor[indices]
            rows = own.reshape(len(own), -1)
            found += [int(rows.amin(1).argmin()), int(rows.amax(1).argmax())]
    return list(dict.fromkeys(found))


def _check_means(task: Task, trial: Trial, output: Tensor, target: Tensor) -> None:
    metrics = {} if trial.trains else task.metrics
    for name, measure in {"loss": task.loss, **metrics}.items():
        measured(name, measure, output, target)
        if compares_all_pairs(measure, output, target):
            raise JobError(
                f"{named(name)} compares each output with every target, "
                f"because outputs of {described([output])} and targets of {described([target])} "
                f"are broadcast against each other; give both the same shape"
            )


def _check_global(task: Task, trial: Trial, output: Tensor, data: Dataset[Any]) -> list[str]:
    """Try the metrics of all outputs on as many as the data has: those of the trial, repeated."""
    samples = len(data)  # type: ignore[arg-type]
    if samples * prod(output.shape[1:]) > _MOST_NUMBERS:
        return []
    again = torch.arange(samples) % len(output)
    held = tensors_of(data)
    targets = trial.target[again] if held is None else held[1]
    warnings = []
    for name, measure in task.global_metrics.items():
        try:
            measured(name, measure, output[again], targets)
        except JobError as error:
            if held is not None or samples == len(output):
                raise
            warnings.append(f"on {len(output)} samples of the {trial.part} data {error}")
    return warnings
