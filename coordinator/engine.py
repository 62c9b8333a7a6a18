"""What a training run needs of whatever computes it: the pipeline of blocks, or one process."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.checkpoint import Checkpoint
from coordinator.loop import OnStep
from dfa_tasks import Task
from workers.state_files import StateFile
from workers.storage import Folder
from workers.trace import Span

LeftOut: TypeAlias = tuple[int, str]  # the step and the layer that its batch changed nothing in


class Engine(Protocol):
    """Trains, evaluates and keeps the state of one job."""

    def start(self, checkpoint: Checkpoint | None) -> int:
        """Make ready to train on from a checkpoint, or from step 0; return the step."""

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:
        """Replace the workers of lost blocks and go back; return the step to go on from."""

    def train(self, first: int, last: int, on_step: OnStep) -> list[LeftOut]:
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


def evaluate(engine: Engine, task: Task, data: Dataset[Any]) -> dict[str, float]:
    """Return loss and metrics, each a mean over all samples, and the task's rankings."""
    sums: dict[str, float] = {"loss": 0.0, **dict.fromkeys(task.metrics, 0.0)}
    samples, kept = 0, []
    for output, target in engine.outputs(data, samples_at_once(task, data)):
        samples += len(target)
        if task.rankings:
            kept.append((output, target))
        for name, measure in {"loss": task.loss, **task.metrics}.items():
            sums[name] += float(measure(output, target)) * len(target)
    whole = [torch.cat(tensors) for tensors in zip(*kept, strict=True)]
    ranked = {name: rank(*whole) for name, rank in task.rankings.items()}
    means = {name: total / samples for name, total in sums.items()}
    return means | ranked | {name: of(means["loss"]) for name, of in task.of_loss.items()}


def samples_at_once(task: Task, data: Dataset[Any]) -> int:
    """Return how many samples of the data are to be evaluated at once."""
    return len(data) if task.whole else task.evaluated_at_once  # type: ignore[arg-type]


def part_sizes(data: Dataset[Any], at_once: int) -> list[int]:
    """Return how many samples each part has."""
    full, rest = divmod(len(data), at_once)  # type: ignore[arg-type]
    return [at_once] * full + ([rest] if rest else [])
