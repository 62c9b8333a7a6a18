"""The engine of the methods `bp` and `shallow`: the reference, in the coordinator's process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import SkippedStep
from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.loop import OnStep
from coordinator.engine.waits import Waits
from coordinator.runs.checkpoint import Checkpoint
from dfa_core import Block, Reference
from dfa_core.loss import WeightedLoss
from dfa_core.scoring import Metrics, PartReport, reports_of
from dfa_core.seeding import restored_once
from dfa_tasks.source import chunks
from workers.state_files import StateFile, write_state
from workers.storage import Folder
from workers.trace import Recording


class SingleProcess:
    """Trains the whole model in this process."""

    def __init__(
        self, reference: Reference, prefetcher: Prefetcher, waits: Waits | None = None
    ) -> None:
        """waits: reports when data are slow."""
        self._reference, self._prefetcher = reference, prefetcher
        self._waits = waits or Waits()
        self._device = reference.head.device

    def settle_loss(self) -> None:
        """Find the weight of the loss's mean on the first batch. Raises as Prefetcher.batch()."""
        with self._waits.on("the data", "of step 0"):
            x, target = self._prefetcher.batch(0)
        self._reference.settle_loss(x.to(self._device), target.to(self._device))

    @property
    def loss(self) -> WeightedLoss:
        """Return the loss, with the weight of its mean."""
        return self._reference.head.loss

    def start(self, checkpoint: Checkpoint | None) -> int:
        """Load a checkpoint."""
        if checkpoint is None:
            return 0
        self.set_cuts(checkpoint.state.cuts)
        for module in self._reference.trained_modules():
            module.go_back()
            module.load_state(*checkpoint.modules.read(module.name))
        return checkpoint.step

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:  # noqa: ARG002
        """Go back to a checkpoint: one process loses no workers."""
        return self.start(checkpoint)

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on."""
        for module in self._reference.trained_modules():
            module.set_cuts(cuts)

    def train(self, first: int, last: int, on_step: OnStep) -> list[SkippedStep]:
        """Train steps first..last-1."""
        with restored_once():
            for step in range(first, last):
                with self._waits.on("the data", f"of step {step}"):
                    batch = self._prefetcher.batch(step)
                x, target = (tensor.to(self._device) for tensor in batch)
                on_step(step, self._reference.train_step(step, x, target))
        labels = [*(layer.label for layer in self._reference.layers), self._reference.head.label]
        modules = zip(labels, self._reference.trained_modules(), strict=True)
        return [(step, label) for label, module in modules for step in module.take_skipped()]

    def outputs(self, data: Dataset[Any], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of all samples."""
        parts = iter(chunks(data, at_once, self._reference.rule.seed))
        while True:
            with self._waits.on("the data of an evaluation"):
                part = next(parts, None)
            if part is None:
                return
            x, target = part
            yield self._reference.evaluate(x.to(self._device)).cpu(), target

    def reports(
        self, data: Dataset[Any], at_once: int, metrics: Metrics, seed: int
    ) -> Iterator[Mapping[str, PartReport]]:
        """Return what the loss and each metric give for each part."""
        return reports_of(self.outputs(data, at_once), self.loss, metrics, seed)

    def save(self, folder: Folder) -> list[StateFile]:
        """Write the state of every layer and of the head."""
        return [write_state(module, folder) for module in self._reference.trained_modules()]

    def diagnosis(self) -> str | None:
        """Return which layer holds the first NaN or infinity."""
        found = Block(self._reference.layers).first_non_finite()
        return found or f"{self._reference.head.label} or the loss"

    def report(self) -> list[dict[str, Any]]:
        """Return no rows: one process waits for no other."""
        return []

    def loads(self) -> list[dict[str, Any]]:
        """Return no rows."""
        return []

    def waited_for_data(self) -> float:
        """Return the seconds that training waited for batches."""
        return self._waits.seconds["the data"]

    def processes(self) -> list[int]:
        """Return no process ids: there are no workers."""
        return []

    def snapshot_cost(self) -> tuple[int, float]:
        """Return zeros: snapshots restore lost workers, and there are no workers."""
        return 0, 0.0

    def trace(self, profiled: bool = False) -> None:
        """Do nothing: there are no blocks to compare on a timeline."""

    def recordings(self) -> list[Recording]:
        """Return nothing."""
        return []
