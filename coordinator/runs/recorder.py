"""Writes what happens in a run: metrics.jsonl and TensorBoard events."""

from typing import Any

from coordinator.runs.board import Board
from coordinator.runs.run_folder import RunFolder
from coordinator.runs.valid_json import json_text
from workers.storage import LocalFolder


class Recorder:
    """Appends a line a logged step and a line an evaluation; what a resume repeats is dropped.

    TensorBoard has the same points.

    A full disk costs no line: they wait in memory, and come to the file in their order as soon as
    there is room. TensorBoard's events then end.
    """

    def __init__(self, folder: RunFolder, from_step: int) -> None:
        """Raises OSError when what was written before cannot be kept."""
        before = folder.curve()
        # the last test is made again
        lines = (line for line in before if line["step"] <= from_step and line["kind"] != "test")
        kept = list({(line["kind"], line["step"]): line for line in lines}.values())
        if kept != before or not folder.metrics.exists():
            text = "".join(json_text(line) + "\n" for line in kept)
            LocalFolder(folder.path).write(folder.metrics.name, text.encode())
        self._file = folder.metrics.open("ab", buffering=0)
        self._unwritten = b""
        self._reported = False
        self._there = {(line["kind"], line["step"]) for line in kept}
        self._board = Board(folder.tensorboard, kept)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> str:
        """Write the values of `kind` ("train", "evaluation" or "test") after `step` steps.

        Returns what is wrong when the disk takes no more, once, else nothing.
        """
        if (kind, step) in self._there:  # a resume at the end evaluates again
            return ""
        self._there.add((kind, step))
        line = {"kind": kind, "step": step, **values}
        self._unwritten += f"{json_text(line)}\n".encode()
        try:
            self._flush()
            self._reported = False
            self._board.add(line)
        except OSError as error:
            if self._reported:
                return ""
            self._reported = True
            return f"step {step} could not be logged yet: {error}; the run continues"
        return ""

    def _flush(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        """Write what is left, as far as the disk allows, and close the files."""
        try:
            self._flush()
            self._board.close()
        except OSError:
            return  # reported by the write that failed
        finally:
            self._file.close()
