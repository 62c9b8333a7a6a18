"""The inputs of a block that reads its replica's share of each batch itself."""

from collections import deque
from collections.abc import Sequence
from math import ceil
from time import perf_counter

from torch import Tensor

from dfa_core import JobError, TensorSpec
from dfa_core.microbatch import split
from workers.groups.group import Group
from workers.heads.target_message import pack_rows
from workers.links import Outbox
from workers.payload import PickledPayload
from workers.reading.checked_batches import CheckedBatches
from workers.reading.parallel_source import ParallelSource
from workers.stage import StageContext


class OwnData:
    """Reads the share of this block's replica, in processes of its own."""

    def __init__(self, packed: PickledPayload, stage: StageContext) -> None:
        """packed: the shares of all replicas."""
        self._source = ParallelSource(packed, stage.readers, replica=stage.replica)
        self._batches = CheckedBatches(self._source, stage.samples * stage.microbatches)
        self._stage = stage
        self._waited_s = 0.0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the share of a step: inputs and targets, (samples, ...).

        Raises JobError as CheckedBatches does, and for another form than was agreed.
        """
        began = perf_counter()
        x, target = self._batches.batch(step)
        self._waited_s += perf_counter() - began
        agreed, found = self._stage.arriving.tensors[0], TensorSpec.of(x)
        if found != agreed or TensorSpec.of(target) != self._stage.target:
            raise JobError(
                f"the training data of step {step} has inputs of {found} and targets of "
                f"{TensorSpec.of(target)}, that of step 0 {agreed} and {self._stage.target}; all "
                f"need one form"
            )
        return x, target

    def take_waited(self) -> float:
        """Return the seconds waited for batches since the last call."""
        waited, self._waited_s = self._waited_s, 0.0
        return waited

    def close(self) -> None:
        """End the processes."""
        self._source.close()


class OwnInputs:
    """In place of the inbox of inputs: they are read here, and their targets go to rank 0."""

    def __init__(
        self, data: OwnData, group: Group, stage: StageContext, steps: Sequence[int], waiting: int
    ) -> None:
        """group: with rank 0. waiting: microbatches that may wait for their error at a block."""
        self._data, self._group, self._microbatches = data, group, stage.microbatches
        self._targets = Outbox(group, to=0)
        self._to_read = deque(steps)
        self._ahead = steps_ahead(waiting, stage.microbatches)
        self._read: deque[Tensor] = deque()

    def take(self) -> Tensor:
        """Return the inputs of the next microbatch, on the block's device."""
        while self._to_read and len(self._read) <= self._ahead * self._microbatches:
            self._read_step(self._to_read.popleft())
        return self._group.on_device(self._read.popleft())

    def _read_step(self, step: int) -> None:
        x, target = self._data.batch(step)
        self._targets.send(pack_rows(target))
        self._targets.keep(at_most=self._ahead + 2)
        self._read.extend(split(x, self._microbatches))

    def release(self) -> None:
        """Do nothing: no message has to arrive for the next inputs."""

    def finish(self) -> None:
        """Wait until rank 0 has all targets."""
        self._targets.finish()


def steps_ahead(waiting: int, microbatches: int) -> int:
    """Return how many steps the targets must be ahead of the inputs, so that rank 0 never waits.

    It hands out as many microbatches ahead as `Rank0.ahead` says.
    """
    return ceil((waiting + 2) / microbatches)
