"""Loads the batches of the next steps into memory while the current step trains."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from torch import Tensor

from dfa_core import JobError, TensorSpec
from dfa_core.loss import WeightedLoss
from dfa_core.microbatch import Microbatch, cut
from dfa_tasks import BatchSource

_AHEAD = 2
_END_S = 2.0


class Prefetcher:
    """Microbatches of consecutive steps, made ahead of time by a thread."""

    def __init__(self, source: BatchSource, batch_size: int, microbatches: int) -> None:
        self._source, self._batch_size, self._microbatches = source, batch_size, microbatches
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetcher")
        self._coming: dict[int, Future[list[Microbatch]]] = {}
        self._form: tuple[TensorSpec, TensorSpec] | None = None  # of inputs and targets

    @property
    def samples(self) -> int:
        """Return the number of samples of a microbatch."""
        return self._batch_size // self._microbatches

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the whole batch of a step, checked.

        Raises JobError when the source fails, or returns a batch of another size or form than
        before.
        """
        try:
            batch = self._source.batch(step)
        except JobError as error:
            raise JobError(f"the training data of step {step}: {error}") from error
        except Exception as error:
            raise JobError(
                f"the training data of step {step} failed: {type(error).__name__}: {error}"
            ) from error
        x, target = _two_tensors(step, batch)
        if len(x) != self._batch_size or len(target) != self._batch_size:
            raise JobError(
                f"the training data of step {step} has {len(x)} inputs and {len(target)} targets, "
                f"batch_size is {self._batch_size}"
            )
        form = TensorSpec.of(x), TensorSpec.of(target)
        before = self._form or form
        if form != before:
            raise JobError(
                f"the training data of step {step} has inputs of {form[0]} and targets of "
                f"{form[1]}, the batches before {before[0]} and {before[1]}; all need one form"
            )
        self._form = form
        return x, target

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


def _two_tensors(step: int, batch: object) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of a batch. Raises JobError when it is anything else."""
    parts = batch if isinstance(batch, list | tuple) else ()
    if len(parts) == 2 and all(isinstance(part, Tensor) and part.dim() > 0 for part in parts):
        x, target = parts
        return x.detach(), target.detach()  # a graph of the user's would be run through again
    kinds = f" of {', '.join(type(part).__name__ for part in parts)}" if parts else ""
    raise JobError(
        f"the training data of step {step} is a {type(batch).__name__}{kinds}; batch(step) returns "
        f"two tensors, inputs and targets, whose first dimension counts the samples"
    )
