"""The share of each replica in the batches of a source, for replicas that read their own data."""

import torch
from torch import Tensor

from dfa_core import JobError
from dfa_tasks.pairs import Batch
from dfa_tasks.source import DatasetSource
from dfa_tasks.task import BatchSource


class Shares:
    """Gives each replica its microbatches of a batch: the numbers g with g mod R = r.

    A data set reads no other samples for it. A batch source makes the whole batch, of which the
    share is taken.
    """

    def __init__(
        self, source: BatchSource, batch_size: int, microbatches: int, replicas: int
    ) -> None:
        """microbatches: M of the whole batch, which R replicas share."""
        self._source, self._batch_size = source, batch_size
        numbers = torch.arange(batch_size).view(microbatches, -1)
        self._rows = [numbers[r::replicas].flatten() for r in range(replicas)]

    def share(self, step: int, replica: int) -> Batch:
        """Return a replica's inputs and targets of this step, microbatch by microbatch.

        Raises JobError when the batch source returns no two tensors of a batch's size.
        """
        rows = self._rows[replica]
        if isinstance(self._source, DatasetSource):
            return self._source.batch(step, rows)
        batch = self._source.batch(step)
        for tensor in batch:
            if not isinstance(tensor, Tensor) or len(tensor) != self._batch_size:
                raise JobError(
                    f"batch({step}) of {type(self._source).__name__} returns no two tensors of "
                    f"{self._batch_size} samples, which is batch_size"
                )
        x, target = (tensor[rows] for tensor in batch)
        return x, target
