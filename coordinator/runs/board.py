"""TensorBoard's events of a run: the points of metrics.jsonl."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Board:
    """Writes one point a step and name, also where a run was killed and starts again.

    What is there when it starts is written anew, with its times: an earlier process may have
    written further than its run got, or not as far.
    """

    def __init__(self, folder: Path, lines: Sequence[dict[str, Any]]) -> None:
        """lines: of metrics.jsonl, so far. Raises OSError when they cannot be written."""
        before = sorted(folder.glob("events.out.tfevents.*"))
        times = _times(before)
        for file in before:
            file.unlink()
        self._writer: Any = SummaryWriter(str(folder))
        for line in lines:
            self.add(line, times)
        self._writer.flush()

    def add(self, line: dict[str, Any], times: dict[tuple[str, int], float] | None = None) -> None:
        """Write the points of a line; times: of points that were there before, by name and step."""
        step = line["step"]
        for name, value in line.items():
            if name not in ("kind", "step"):
                tag = f"{line['kind']}/{name}"
                at = times.get((tag, step)) if times else None
                self._writer.add_scalar(tag, value, step, walltime=at)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _times(files: Sequence[Path]) -> dict[tuple[str, int], float]:
    """Return when each point of these event files was written; a damaged rest is left out."""
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
