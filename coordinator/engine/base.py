"""What a training run needs of whatever computes it: the pipeline of blocks, or one process."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.loop import OnStep
from coordinator.runs.checkpoint import Checkpoint
from workers.state_files import StateFile
from workers.storage import Folder
from workers.trace import Span

SkippedStep: TypeAlias = tuple[int, str]  # the step and the layer that its batch changed nothing in


class Engine(Protocol):
    """Trains, evaluates and keeps the state of one job."""

    def start(self, checkpoint: Checkpoint | None) -> int:
        """Make ready to train on from a checkpoint, or from step 0; return the step."""

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:
        """Replace the workers of lost blocks and go back; return the step to go on from."""

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on; call it between two segments.

        Raises PipelineBroken when a worker is gone; recover() then completes it.
        """

    def train(self, first: int, last: int, on_step: OnStep) -> list[SkippedStep]:
        """Train steps first..last-1; return whose batches were left out where."""

    def outputs(self, data: Dataset[Any], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of all samples, so many at once."""

    def save(self, folder: Folder) -> list[StateFile]:
        """Write the state of every layer and of the head into a folder."""

    def diagnosis(self) -> str | None:
        """Say which layer holds the first NaN or infinity, if that is known."""

    def report(self) -> list[dict[str, Any]]:
        """Return a row a process: name, layers, busy and waiting share, bytes sent."""

    def loads(self) -> list[dict[str, Any]]:
        """Return the same of the newest segment alone."""

    def processes(self) -> list[int]:
        """Return the process ids of the workers, if there are any."""

    def snapshot_cost(self) -> tuple[int, float]:
        """Return how many snapshots were taken, and the share of the time that they took."""

    def trace(self) -> None:
        """Let every process note what it computes, from now on."""

    def spans(self) -> list[list[Span]]:
        """End the tracing; return a row of spans a process, the head's last."""
