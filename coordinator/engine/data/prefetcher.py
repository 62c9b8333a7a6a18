"""Loads the batches of the next steps into memory while the current step trains."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from torch import Tensor

from dfa_core.loss import WeightedLoss
from dfa_core.microbatch import Microbatch, cut
from dfa_tasks import BatchSource
from workers.reading.checked_batches import CheckedBatches

_AHEAD = 2
_END_S = 2.0


class Prefetcher:
    """Microbatches of consecutive steps, made ahead of time by a thread."""

    def __init__(self, source: BatchSource, batch_size: int, microbatches: int) -> None:
        self._batches = CheckedBatches(source, batch_size)
        self._batch_size, self._microbatches = batch_size, microbatches
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetcher")
        self._coming: dict[int, Future[list[Microbatch]]] = {}

    @property
    def samples(self) -> int:
        """Return the number of samples of a microbatch."""
        return self._batch_size // self._microbatches

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the whole batch of a step. Raises JobError as CheckedBatches.batch() does."""
        return self._batches.batch(step)

    def microbatches(
        self, first: int, last: int, loss: WeightedLoss | None = None
    ) -> Iterator[Microbatch]:
        """Yield every microbatch of steps first..last-1; loss: gives their shares."""
        for step in range(first, last):
            for ahead in range(step, step + _AHEAD + 1):
                if ahead not in self._coming:
                    self._coming[ahead] = self._thread.submit(self._cut, ahead, loss)
            yield from self._coming.pop(step).result()

    def _cut(self, step: int, loss: WeightedLoss | None) -> list[Microbatch]:
        return cut(*self.batch(step), self._microbatches, loss)

    def close(self) -> None:
        """Stop the thread; wait a moment for a batch that it reads.

        Until its end it may draw from the global generators, which are then another's.
        """
        self._thread.shutdown(wait=False, cancel_futures=True)
        wait([batch for batch in self._coming.values() if not batch.cancelled()], timeout=_END_S)
