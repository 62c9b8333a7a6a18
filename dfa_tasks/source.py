"""Batches of any map-style dataset, as a pure function of (seed, step)."""

from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from dfa_core import JobError
from dfa_core.seeding import derive
from dfa_tasks.task import BatchSource

Batch = tuple[Tensor, Tensor]


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

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of this step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
            self._order = (epoch, torch.randperm(self._samples, generator=generator))
        start = index * self._batch_size
        return pick(self._dataset, self._order[1][start : start + self._batch_size])


def as_source(train: Dataset[Any] | BatchSource, batch_size: int, seed: int) -> BatchSource:
    """Return a batch source unchanged, and a source of a map-style dataset. Raises JobError."""
    if hasattr(train, "batch") and hasattr(train, "steps_per_epoch"):
        return train
    if not (hasattr(train, "__getitem__") and hasattr(train, "__len__")):
        raise JobError(
            f"the training data is a {type(train).__name__}: it must be a map-style Dataset "
            f"(__getitem__ and __len__) or a batch source (batch(step) and steps_per_epoch)"
        )
    return DatasetSource(train, batch_size, seed)


def chunks(dataset: Dataset[Any], size: int) -> Iterator[Batch]:
    """Yield the whole dataset in order, `size` samples at a time; the last chunk may be smaller."""
    samples = len(cast(Sized, dataset))
    for start in range(0, samples, size):
        yield pick(dataset, torch.arange(start, min(start + size, samples)))


def pick(dataset: Dataset[Any], indices: Tensor) -> Batch:
    """Return the inputs and targets of these samples as two tensors.

    Raises JobError when a sample is not an (input, target) pair.
    """
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        x, target = (tensor[indices] for tensor in dataset.tensors)
        return x, target
    batch = default_collate([dataset[int(i)] for i in indices])
    if not (isinstance(batch, list | tuple) and len(batch) == 2):
        raise JobError(
            f"a sample of {type(dataset).__name__} must be a pair (input, target) of tensors"
        )
    x, target = batch
    return x, target
