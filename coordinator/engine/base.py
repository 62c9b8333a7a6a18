"""The interface between a training run and what computes it: a pipeline or one process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.loop import OnStep
from coordinator.runs.checkpoint import Checkpoint
from dfa_core.loss import WeightedLoss
from dfa_core.scoring import Metrics, PartReport
from workers.state_files import StateFile
from workers.storage import Folder
from workers.trace import Recording

SkippedStep: TypeAlias = tuple[int, str]  # a step, and a layer that skipped its batch


class Engine(Protocol):
    """Trains, evaluates and keeps the state of one job."""

    @property
    def loss(self) -> WeightedLoss:
        """Return the loss, with the weight of its mean."""

    def start(self, checkpoint: Checkpoint | None) -> int:
        """Get ready to train from a checkpoint, or from step 0; return the step."""

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:
        """Replace lost workers and go back to a saved state; return the step to resume from."""

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on; call it between two segments.

        Raises PipelineBroken when a worker is gone; recover() then completes it.
        """

    def train(self, first: int, last: int, on_step: OnStep) -> list[SkippedStep]:
        """Train steps first..last-1; return which batches were skipped in which layers."""

    def outputs(self, data: Dataset[Any], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of all samples, `at_once` samples at a time."""

    def reports(
        self, data: Dataset[Any], at_once: int, metrics: Metrics, seed: int
    ) -> Iterator[Mapping[str, PartReport]]:
        """Yield what the loss and each metric give for each part, `at_once` samples at a time.

        seed: of what they draw from global generators.
        """

    def save(self, folder: Folder) -> list[StateFile]:
        """Write the state of every layer and of the head into a folder."""

    def diagnosis(self) -> str | None:
        """Return which layer holds the first NaN or infinity, if that is known."""

    def report(self) -> list[dict[str, Any]]:
        """Return a row for each process: name, layers, busy and waiting share, bytes sent."""

    def loads(self) -> list[dict[str, Any]]:
        """Return the same rows for the newest segment alone."""

    def waited_for_data(self) -> float:
        """Return the seconds that training waited for batches."""

    def processes(self) -> list[int]:
        """Return the process ids of the workers, if there are any."""

    def snapshot_cost(self) -> tuple[int, float]:
        """Return the number of snapshots, and the largest share of a block's time they took."""

    def trace(self, profiled: bool = False) -> None:
        """Make every process record what it computes, from now on.

        profiled: torch's profiler records the operations too.
        """

    def recordings(self) -> list[Recording]:
        """Stop recording; return that of each process, the head's last."""
