"""Measures the outputs of an evaluation where the head is; the coordinator sends the targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dfa_core import Head, TensorSpec
from dfa_core.scoring import Metrics, PartMeter, PartReport
from workers.groups.group import Group
from workers.heads.target_message import rows_message, unpack_rows
from workers.links import Inbox


@dataclass(frozen=True)
class Measuring:
    """What the host of a head needs to measure an evaluation's parts.

    target: of a sample. seed: of what loss and metrics draw from global generators.
    """

    target: TensorSpec
    seed: int


class MeasuredOutputs:
    """Takes the head's outputs as an outbox does, and keeps a report of each."""

    def __init__(
        self, head: Head, metrics: Metrics, order: Measuring, rank0: Group, sizes: Sequence[int]
    ) -> None:
        """sizes: samples of each part that comes here."""
        self.reports: list[dict[str, PartReport]] = []
        self._meter, self._target = PartMeter(head.loss, metrics, order.seed), order.target
        self._targets = Inbox(rank0, 0, rows_message(order.target), sizes, slots=2)

    def send(self, output: Tensor) -> None:
        """Measure the next part. Raises JobError as loss and metrics do."""
        target = unpack_rows(self._targets.take(), self._target)
        self._targets.release()
        self.reports.append(self._meter.report(output.cpu(), target.cpu()))

    def keep(self, at_most: int) -> None:
        """Do nothing: no message is under way."""

    def finish(self) -> None:
        """Do nothing: no message is under way."""
