"""Reads batches ahead in processes of their own, where one thread is too slow."""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dfa_core import JobError
from dfa_core.errors import reason
from workers.payload import PickledPayload
from workers.snapshots import PackedTensor

_AHEAD = 2  # batches of each process
_DEATHS = 3  # in a row, without a batch


@dataclass(frozen=True)
class _Read:
    """What a process read, or why it could not; tensors as bytes, which need no shared memory.

    trace: of the failure. other: what the source gave, if these are no tensors.
    """

    batch: tuple[PackedTensor, ...] = ()
    failure: str = ""
    trace: str = ""
    other: Any = None


class _Ended(Exception):
    """The processes were ended meanwhile, by close() or because one died."""


class ParallelSource:
    """A batch source that several processes read; its batches are those of the source itself.

    A batch depends on (seed, step) alone, so any process may read it. One that dies is replaced.
    """

    def __init__(
        self,
        packed: PickledPayload,
        processes: int,
        steps_per_epoch: int = 0,
        replica: int | None = None,
    ) -> None:
        """Start the processes with the first batch.

        packed: the source, which has batch(step); or share(step, replica), of which this replica's
            share is read. steps_per_epoch: of the source, for those who ask.
        """
        self.steps_per_epoch = steps_per_epoch
        self._packed, self._processes, self._deaths = packed, processes, 0
        self._replica = replica
        self._threads = torch.get_num_threads()  # as many as where it would be read otherwise
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[int, Future[_Read]] = {}
        self._closed, self._lock = False, threading.Lock()

    def batch(self, step: int) -> Any:
        """Return the batch of a step, and let the next ones be read.

        Raises JobError when the source fails, or when processes die again and again.
        """
        while True:
            if self._closed:
                raise JobError("the run has ended")
            try:
                read = self._read_ahead(step).result()
            except (BrokenProcessPool, CancelledError, _Ended) as error:
                self._restart(step, error)
                continue
            self._deaths = 0
            self._coming.pop(step, None)
            if read.failure:
                failure = JobError(read.failure)
                failure.add_note(f"in the process that read it:\n{read.trace}")
                raise failure
            return tuple(tensor.tensor() for tensor in read.batch) or read.other

    def close(self) -> None:
        """End the processes; no more batch can be read."""
        with self._lock:
            self._closed = True
        self._end_pool()

    def _end_pool(self) -> None:
        with self._lock:
            pool, self._pool, self._coming = self._pool, None, {}
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.terminate()  # it may be in the middle of a long read
            pool.shutdown(wait=False, cancel_futures=True)

    def _read_ahead(self, step: int) -> Future[_Read]:
        """Let this step and some after it be read, and drop what was read for others."""
        with self._lock:
            if self._closed:
                raise _Ended
            if self._pool is None:
                context = multiprocessing.get_context("spawn")  # Ray's threads forbid fork
                self._pool = ProcessPoolExecutor(
                    self._processes,
                    context,
                    _open,
                    (self._packed, self._replica, self._threads),
                )
            pool, found = self._pool, self._coming
        wanted = range(step, step + 1 + _AHEAD * self._processes)
        for other in [other for other in list(found) if other not in wanted]:
            found.pop(other).cancel()
        try:
            for coming in wanted:
                if coming not in found:
                    found[coming] = pool.submit(_read, coming)
            return found[step]
        except (RuntimeError, KeyError) as error:  # closed meanwhile
            raise _Ended from error

    def _restart(self, step: int, error: Exception) -> None:
        self._end_pool()
        if self._closed:
            return
        self._deaths += 1
        if self._deaths >= _DEATHS:
            raise JobError(
                f"processes that read it died {self._deaths} times in a row, at step {step} or a "
                f"little later; is there enough memory? resources.data_workers=0 reads it in the "
                f"coordinator"
            ) from error


_OPENED: list[Callable[[int], Any] | JobError] = []  # of a reading process: how a step is read


def _open(packed: PickledPayload, replica: int | None, threads: int) -> None:
    """Get ready to read, in a new process; it ends with its parent."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        source = packed.unpack()
        own = source.batch if replica is None else partial(source.share, replica=replica)
        _OPENED.append(own)
    except Exception as error:  # noqa: BLE001  # said with the first batch
        _OPENED.append(JobError(f"it cannot be opened in another process: {reason(error)}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read(step: int) -> _Read:
    read = _OPENED[0]
    try:
        if isinstance(read, JobError):
            raise read
        batch: Any = read(step)
        if not isinstance(batch, list | tuple) or not all(isinstance(t, Tensor) for t in batch):
            return _Read(other=batch)
        return _Read(tuple(PackedTensor.of(tensor.detach().contiguous()) for tensor in batch))
    except JobError as error:
        return _Read(failure=str(error), trace=traceback.format_exc())
    except Exception as error:  # noqa: BLE001  # it may be one that cannot be pickled
        return _Read(failure=reason(error), trace=traceback.format_exc())
