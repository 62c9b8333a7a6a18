"""Writes what happens in a run: metrics.jsonl and TensorBoard events."""

import json
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from coordinator.run_folder import RunFolder


class Recorder:
    """Appends a line a logged step and a line an evaluation; what a resume repeats is dropped."""

    def __init__(self, folder: RunFolder, from_step: int) -> None:
        kept = [line for line in folder.curve() if line["step"] <= from_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        folder.metrics.write_text(text, encoding="utf-8")
        self._file = folder.metrics.open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(
            str(folder.tensorboard), purge_step=from_step + 1 if from_step else None
        )

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Write the values of `kind` ("train" or "evaluation") after `step` steps."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Bring everything to the disk."""
        self._file.close()
        self._board.close()
