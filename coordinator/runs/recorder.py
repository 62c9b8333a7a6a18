"""Writes what happens in a run: each line once, to all trackers."""

from collections.abc import Mapping
from typing import Any

from coordinator.runs.run_folder import RunFolder
from coordinator.runs.trackers.jsonl import JsonLines
from coordinator.runs.trackers.tensorboard import TensorBoard
from coordinator.runs.trackers.tracker import Tracker, TrackerGroup


class Recorder:
    """Logs a line a logged step and a line an evaluation; what a resume repeats is dropped.

    A full disk costs no line of metrics.jsonl: they wait in memory, and reach the file in their
    order as soon as there is room. TensorBoard's events then end.
    """

    def __init__(self, folder: RunFolder, other: Tracker | None = None) -> None:
        """other: a tracker that gets all lines too."""
        self._folder = folder
        files = JsonLines(folder.metrics), TensorBoard(folder.tensorboard)
        self._tracker = TrackerGroup([files[0], other or Tracker(), files[1]])
        self._there: set[tuple[str, int]] = set()
        self._reported = False

    def begin(self, step: int) -> None:
        """Keep the lines up to `step` and drop later ones.

        Raises OSError when what was written before cannot be kept.
        """
        # the last test is made again
        lines = (
            line for line in self._folder.curve() if line["step"] <= step and line["kind"] != "test"
        )
        kept = {(line["kind"], line["step"]): line for line in lines}
        self._there = set(kept)
        self._tracker.begin(list(kept.values()))

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> str:
        """Write the values of `kind` ("train", "evaluation" or "test") after `step` steps.

        Returns what is wrong when the disk takes no more, once; then None.
        """
        if (kind, step) in self._there:  # a resume at the end evaluates again
            return ""
        self._there.add((kind, step))
        try:
            self._tracker.metrics([{"kind": kind, "step": step, **values}])
            self._reported = False
        except OSError as error:
            if self._reported:
                return ""
            self._reported = True
            return f"step {step} could not be logged yet: {error}; the run continues"
        return ""

    def settled(self, step: int) -> None:
        """Note that no roll-back can take back what was logged up to this step."""
        self._tracker.settled(step)

    def close(self) -> None:
        """Write what is left, as far as the disk allows, and close the files."""
        self._tracker.close()
