"""The interface of all trackers, and several of them as one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

# what is logged of a step: its kind ("train", "evaluation" or "test"), its step, and the values
Line: TypeAlias = Mapping[str, Any]

# finished: trained to its end. stopped: saved before its end, as it was asked to. failed: the rest
RunEnd = Literal["finished", "stopped", "failed"]


class Tracker:
    """Gets all that a run logs. This one drops it; others override what they need.

    The calls come in this order: begin(), again after each roll-back; hyperparameters(); metrics()
    and settled(); close(), when there are no more metrics; artifact(); finish().
    """

    def begin(self, lines: Sequence[Line]) -> None:
        """Continue a run that has logged these lines; it has logged no others that still count.

        Raises OSError when it cannot be continued.
        """

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Take the settings of the resolved job, nested as in job.yaml."""

    def metrics(self, lines: Sequence[Line]) -> None:
        """Log lines. Raises OSError when they cannot be written yet; they are not lost then."""

    def settled(self, step: int) -> None:
        """Note that no roll-back can take back what was logged up to this step."""

    def close(self) -> None:
        """Write what is left, as far as the disk allows."""

    def artifact(self, file: Path) -> None:
        """Keep a file that the run has written."""

    def finish(self, end: RunEnd, summary: Mapping[str, Any]) -> None:
        """Note how the run ended; summary: result.json, or nothing if there is none."""


class TrackerGroup(Tracker):
    """Several trackers as one, which get everything in this order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def begin(self, lines: Sequence[Line]) -> None:
        """Have each one continue."""
        for tracker in self._trackers:
            tracker.begin(lines)

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Give them to each one."""
        for tracker in self._trackers:
            tracker.hyperparameters(values)

    def metrics(self, lines: Sequence[Line]) -> None:
        """Give them to each one, up to the first that cannot write them."""
        for tracker in self._trackers:
            tracker.metrics(lines)

    def settled(self, step: int) -> None:
        """Tell each one."""
        for tracker in self._trackers:
            tracker.settled(step)

    def close(self) -> None:
        """Close each one."""
        for tracker in self._trackers:
            tracker.close()

    def artifact(self, file: Path) -> None:
        """Give it to each one."""
        for tracker in self._trackers:
            tracker.artifact(file)

    def finish(self, end: RunEnd, summary: Mapping[str, Any]) -> None:
        """Tell each one."""
        for tracker in self._trackers:
            tracker.finish(end, summary)


def tag(line: Line, name: str) -> str:
    """Return the name of a value in other programs: "train/loss"."""
    return f"{line['kind']}/{name}"


def values_of(line: Line) -> dict[str, Any]:
    """Return the values of a line by name, without its kind and step."""
    return {name: value for name, value in line.items() if name not in ("kind", "step")}
