"""The engine of the methods `bp` and `shallow`: the reference, in the coordinator's process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from coordinator.engine import test_parts
from coordinator.feed import Feed
from coordinator.loop import OnStep
from dfa_core import Block, Reference
from dfa_tasks import Splits
from workers.state_files import StateFile, read_state, write_state
from workers.trace import Span


class SingleProcess:
    """Trains the whole model here."""

    def __init__(self, reference: Reference, feed: Feed) -> None:
        self._reference, self._feed = reference, feed

    def train(self, first: int, last: int, on_step: OnStep) -> None:
        """Train steps first..last-1."""
        for step in range(first, last):
            on_step(step, self._reference.train_step(step, *self._feed.batch(step)))

    def outputs(self, splits: Splits) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of the whole test data."""
        for x, target in test_parts(splits)[0]:
            yield self._reference.evaluate(x), target

    def save(self, folder: Path) -> list[StateFile]:
        """Write the state of every layer and of the head."""
        return [write_state(part, folder) for part in self._reference.parts()]

    def load(self, folder: Path) -> None:
        """Take over a state that save() wrote."""
        for part in self._reference.parts():
            part.load_state(*read_state(folder, part.name))

    def diagnosis(self) -> str | None:
        """Say which layer holds the first NaN or infinity."""
        found = Block(self._reference.layers).first_non_finite()
        return found or f"{self._reference.head.label} or the loss"

    def report(self) -> list[dict[str, Any]]:
        """Return no rows: one process waits for nobody."""
        return []

    def loads(self) -> list[dict[str, Any]]:
        """Return no rows."""
        return []

    def trace(self) -> None:
        """Do nothing: there are no blocks whose work could be laid side by side."""

    def spans(self) -> list[list[Span]]:
        """Return no rows."""
        return []
