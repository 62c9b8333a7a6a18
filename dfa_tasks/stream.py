"""Batches of a torch IterableDataset, in its order."""

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

from torch.utils.data import IterableDataset

from dfa_core import JobError
from dfa_core.seeding import derive, draw_from, drawing_from
from dfa_tasks.pairs import Batch, collated, pair

_KEPT = 4096  # states, of the newest steps; and the first one


class Stream:
    """A batch source whose samples a data set yields one after another.

    `len()` of the data set says how many samples an epoch has.

    A data set with `state_dict()` and `load_state_dict()` continues from its state; at its end it
    is iterated again. A step is found by the state before it, which JSON must hold. A data
    set without a state is iterated again in each epoch; a step of an epoch is found by reading what
    comes before it.

    dataset: what it reads. Nobody else may: its position is the stream's.
    """

    def __init__(self, dataset: IterableDataset[Any], batch_size: int, seed: int) -> None:
        """Raises JobError for a data set without a length, or with less than a batch."""
        self.dataset, self._batch_size = cast(Any, dataset), batch_size
        self._seed, self._name = derive(seed, "stream"), type(dataset).__name__
        try:
            samples = len(self.dataset)
        except Exception as error:
            raise JobError(
                f"the training data is an iterable {self._name} without a length; give it "
                f"__len__, the samples of an epoch"
            ) from error
        if samples < batch_size:
            raise JobError(f"batch_size: {batch_size} is more than the {samples} training samples")
        self.steps_per_epoch = samples // batch_size
        self._has_state = hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
        self._states: dict[int, Any] = {}
        self._samples: Iterator[Any] = iter(())
        self._next = -1  # the step whose samples come next
        self._keep(0)

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of this step. Raises JobError when a sample fails."""
        if step != self._next:
            self._go_to(step)
        elif not self._has_state and step % self.steps_per_epoch == 0:
            self._samples = iter(self.dataset)
        self._next = -1  # if it fails
        batch = collated(self._read(step), self._name)
        self._next = step + 1
        self._keep(step + 1)
        return batch

    def state(self, step: int) -> Any:
        """Return the data set's state before a step; None if that was not read, or has none."""
        return self._states.get(step)

    def resume(self, step: int, state: Any) -> None:
        """Take over the data set's state before a step, which is the next one."""
        if self._has_state and state is not None:
            self._states[step], self._next = state, -1

    def close(self) -> None:
        """Put the data set back to its first sample, for another reader."""
        self._go_to(0)

    def _go_to(self, step: int) -> None:
        """Begin at a step: from its state, or by reading what comes before it."""
        self._next, first = -1, step - step % self.steps_per_epoch
        if self._has_state:
            first = max(known for known in self._states if known <= step)
            self.dataset.load_state_dict(copy.deepcopy(self._states[first]))
        self._samples = iter(self.dataset)
        for before in range(first, step):
            self._read(before)
        self._next = step

    def _read(self, step: int) -> list[Any]:
        """Return the samples of a step; each draws from a seed of its own."""
        samples, first = [], step * self._batch_size
        with drawing_from(self._seed):
            for number in range(first, first + self._batch_size):
                draw_from(derive(self._seed, number))
                samples.append(self._sample(number))
        return samples

    def _sample(self, number: int) -> Any:
        what = f"sample {number} of {self._name}"
        for _ in range(2):
            try:
                return pair(next(self._samples), what)
            except StopIteration:
                if not self._has_state:
                    break
                self._samples = iter(self.dataset)
            except JobError:
                raise
            except Exception as error:
                raise JobError(f"{what} failed: {type(error).__name__}: {error}") from error
        samples = self.steps_per_epoch * self._batch_size
        raise JobError(f"{what} is not there; by its length an epoch has {samples} or more")

    def _keep(self, step: int) -> None:
        """Keep the state before a step. Raises JobError for one that JSON cannot hold."""
        if not self._has_state:
            return
        state = self.dataset.state_dict()
        try:
            self._states[step] = json.loads(json.dumps(state))
        except (TypeError, ValueError) as error:
            raise JobError(
                f"the state of {self._name} must be what JSON can hold, for checkpoints: {error}"
            ) from error
        if step > _KEPT:
            self._states.pop(step - _KEPT, None)
