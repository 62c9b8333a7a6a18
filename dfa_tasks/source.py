"""Batches of any data set, as a pure function of (seed, step).

Datasets and batch sources are the user's code: it draws from the global generators under seeds of
the job.
"""

from collections.abc import Iterator, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from dfa_core import JobError
from dfa_core.errors import reason
from dfa_core.seeding import derive, draw_from, drawing_from
from dfa_tasks.pairs import Batch, collated, pair
from dfa_tasks.stream import Stream
from dfa_tasks.task import BatchSource


class DatasetSource:
    """Shuffles the data in each epoch, and skips the incomplete last batch of an epoch."""

    def __init__(self, dataset: Dataset[Any], batch_size: int, seed: int) -> None:
        """Raises JobError when the data has fewer samples than one batch."""
        self._dataset, self._batch_size, self._seed = dataset, batch_size, seed
        self._samples = len(cast(Sized, dataset))
        if self._samples < batch_size:
            raise JobError(
                f"batch_size: {batch_size} is more than the {self._samples} training samples"
            )
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of complete batches in the data."""
        return self._samples // self._batch_size

    def batch(self, step: int, rows: Tensor | None = None) -> Batch:
        """Return inputs and targets of this step; rows: of these samples of the batch alone."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
            self._order = (epoch, torch.randperm(self._samples, generator=generator))
        start = index * self._batch_size
        indices = self._order[1][start : start + self._batch_size]
        indices = indices if rows is None else indices[rows]
        return pick(self._dataset, indices, derive(self._seed, "sample", epoch))


class SeededSource:
    """A user's batch source, whose draws depend on (seed, step) alone."""

    def __init__(self, source: BatchSource, seed: int) -> None:
        self._source, self._seed = source, seed

    @property
    def steps_per_epoch(self) -> int:
        """Return how many steps one pass over the data takes."""
        return self._source.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of this step."""
        with drawing_from(derive(self._seed, "batch", step)):
            return self._source.batch(step)


def as_source(train: Dataset[Any] | BatchSource, batch_size: int, seed: int) -> BatchSource:
    """Return a source whose batches depend on (seed, step) alone.

    train: a batch source, or a data set, map-style or iterable.

    Raises JobError for anything else, and for data with fewer samples than one batch.
    """
    if hasattr(train, "batch") and hasattr(train, "steps_per_epoch"):
        return train if draws_nothing(train) else SeededSource(train, seed)
    if isinstance(train, IterableDataset):
        return Stream(train, batch_size, seed)
    _check_map_style(train, "training", " or a batch source (batch(step) and steps_per_epoch)")
    return DatasetSource(train, batch_size, seed)


def check_evaluated(data: Dataset[Any] | None, part: str) -> None:
    """Raise JobError for data that cannot be evaluated on; part: of the data, such as `test`."""
    if data is None:
        raise JobError(f"the {part} data is None; give Splits(train, test) a dataset there")
    _check_map_style(data, part)
    if _length(data, part) == 0:
        raise JobError(f"the {part} data is empty; give it at least one sample")


def _check_map_style(data: object, part: str, otherwise: str = "") -> None:
    """Raise JobError if data has no samples by index; otherwise: what else would be taken."""
    by_index = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, list | tuple) and data and hasattr(data[0], "shape"):
        raise JobError(
            f"the {part} data is a {type(data).__name__} of {type(data[0]).__name__}: it must be "
            f"a dataset of pairs, such as torch.utils.data.TensorDataset(inputs, targets)"
        )
    if by_index and not isinstance(data, IterableDataset | dict):
        _length(data, part)
        return
    hint = "; give its dataset" if isinstance(data, DataLoader) else ""
    raise JobError(
        f"the {part} data is a {type(data).__name__}: it must be a map-style Dataset "
        f"(__getitem__ and __len__){otherwise}{hint}"
    )


def _length(data: object, part: str) -> int:
    try:
        return len(cast(Sized, data))
    except Exception as error:
        raise JobError(f"the {part} data has no length: {reason(error)}") from error


def chunks(dataset: Dataset[Any], size: int, seed: int = 0) -> Iterator[Batch]:
    """Yield the whole dataset in order, `size` samples at a time; the last chunk may be smaller.

    What a sample draws depends on (seed, its index) alone.
    """
    samples = len(cast(Sized, dataset))
    for start in range(0, samples, size):
        indices = torch.arange(start, min(start + size, samples))
        yield pick(dataset, indices, derive(seed, "evaluated"))


def pick(dataset: Dataset[Any], indices: Tensor, seed: int = 0) -> Batch:
    """Return the inputs and targets of these samples as two tensors.

    What a sample draws depends on (seed, its index) alone.

    Raises JobError when a sample fails, or is not an (input, target) pair of tensors.
    """
    held = tensors_of(dataset)
    if held is not None:
        x, target = (tensor[indices].detach() for tensor in held)
        return x, target
    return collated(_samples(dataset, indices, seed), type(dataset).__name__)


def _sample(dataset: Dataset[Any], index: int) -> Sequence[Any]:
    """Return a sample, which is a pair. Raises JobError."""
    name = type(dataset).__name__
    try:
        sample = dataset[index]
    except JobError:
        raise
    except Exception as error:
        raise JobError(
            f"sample {index} of {name} failed: {type(error).__name__}: {error}"
        ) from error
    return pair(sample, f"sample {index} of {name}")


def tensors_of(dataset: object) -> Batch | None:
    """Return inputs and targets of all samples, if they are in memory as two tensors."""
    # a subclass may make its samples itself
    plain = getattr(type(dataset), "__getitem__", None) is TensorDataset.__getitem__
    if not isinstance(dataset, TensorDataset) or not plain or len(dataset.tensors) != 2:
        return None
    x, target = dataset.tensors
    return x, target


def draws_nothing(data: object) -> bool:
    """Return whether reading a dataset or batch source runs no code that may draw.

    Only torch's own datasets and the installed tasks' are known.
    """
    if type(data) in (Subset, Stream):
        return draws_nothing(data.dataset)  # type: ignore[attr-defined]
    if type(data) is ConcatDataset:
        return all(map(draws_nothing, data.datasets))
    return type(data) is TensorDataset or type(data).__module__.startswith("dfa_tasks.")


def _samples(dataset: Dataset[Any], indices: Tensor, seed: int) -> list[Any]:
    if draws_nothing(dataset):
        return [_sample(dataset, int(i)) for i in indices]
    samples = []
    with drawing_from(seed):
        for i in indices.tolist():
            draw_from(derive(seed, i))  # a waiting head may go first: reading may take long
            samples.append(_sample(dataset, i))
    return samples
