"""What a training run needs of whatever computes it: the pipeline of blocks, or one process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from coordinator.loop import OnStep
from dfa_tasks import Splits, Task
from dfa_tasks.source import parts
from workers.state_files import StateFile
from workers.trace import Span

EVALUATION_SAMPLES = 1024


class Engine(Protocol):
    """Trains, evaluates and keeps the state of one job."""

    def train(self, first: int, last: int, on_step: OnStep) -> None:
        """Train steps first..last-1."""

    def outputs(self, splits: Splits) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of the whole test data, part by part."""

    def save(self, folder: Path) -> list[StateFile]:
        """Write the state of every layer and of the head into a folder."""

    def load(self, folder: Path) -> None:
        """Take over a state that save() wrote."""

    def diagnosis(self) -> str | None:
        """Say which layer holds the first NaN or infinity, if that is known."""

    def report(self) -> list[dict[str, Any]]:
        """Return a row a process: name, layers, busy and waiting share, bytes sent."""

    def loads(self) -> list[dict[str, Any]]:
        """Return the same of the newest segment alone."""

    def trace(self) -> None:
        """Let every process note what it computes, from now on."""

    def spans(self) -> list[list[Span]]:
        """End the tracing; return a row of spans a process, the head's last."""


def evaluate(engine: Engine, task: Task, splits: Splits) -> dict[str, float]:
    """Return the test loss and the task's metrics, each a mean over all samples."""
    sums: dict[str, float] = {"loss": 0.0, **dict.fromkeys(task.metrics, 0.0)}
    samples = 0
    for output, target in engine.outputs(splits):
        samples += len(target)
        for name, measure in {"loss": task.loss, **task.metrics}.items():
            sums[name] += float(measure(output, target)) * len(target)
    return {name: total / samples for name, total in sums.items()}


def test_parts(splits: Splits) -> tuple[Iterator[tuple[Tensor, Tensor]], list[int]]:
    """Return the test data in parts, and the parts' sizes."""
    samples = len(splits.test)  # type: ignore[arg-type]
    full, rest = divmod(samples, EVALUATION_SAMPLES)
    sizes = [EVALUATION_SAMPLES] * full + ([rest] if rest else [])
    return parts(splits.test, EVALUATION_SAMPLES), sizes
