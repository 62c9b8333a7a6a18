"""TensorBoard's events of a run: the points of metrics.jsonl."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from coordinator.runs.trackers.tracker import Line, Tracker, tag, values_of

Times = Mapping[tuple[str, int], float]
_NOW: Times = MappingProxyType({})


class TensorBoard(Tracker):
    """Writes one point a step and name, also where a run was killed and starts again.

    What is there when it starts is written again, with its times: an earlier process may have
    written further than its run got, or not as far.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def begin(self, lines: Sequence[Line]) -> None:
        """Write the points of these lines alone. Raises OSError when that fails."""
        self.close()
        before = sorted(self._folder.glob("events.out.tfevents.*"))
        times = _times(before)
        for file in before:
            file.unlink()
        self._writer = SummaryWriter(str(self._folder))
        self._add(lines, times)
        self._writer.flush()

    def metrics(self, lines: Sequence[Line]) -> None:
        """Write the points of lines. Raises OSError when the disk has taken no more."""
        self._add(lines, _NOW)

    def _add(self, lines: Sequence[Line], times: Times) -> None:
        for line in lines:
            for name, value in values_of(line).items():
                at = times.get((tag(line, name), line["step"]))
                self._writer.add_scalar(tag(line, name), value, line["step"], walltime=at)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            with suppress(OSError):  # reported by the write that failed
                self._writer.close()


def _times(files: Sequence[Path]) -> Times:
    """Return when each point of these event files was written; a damaged rest is skipped."""
    if not files:
        return {}
    from tensorboard.backend.event_processing.event_file_loader import (  # noqa: PLC0415
        EventFileLoader,  # takes a second to import
    )

    load: Any = EventFileLoader  # untyped
    return {
        (value.tag, event.step): event.wall_time
        for file in files
        for event in load(str(file)).Load()
        for value in event.summary.value
    }
