"""The child process that reads trained models: writes their weights, runs samples through them."""

from pathlib import Path
from typing import Any

import numpy as np

from coordinator.service.processes.frames import Header, answer_one_by_one
from dfa_core.errors import JobError


class NoCheckpoint(Exception):
    """The job has saved nothing yet."""


class DamagedCheckpoint(Exception):
    """A file of a checkpoint is not what was written."""


class BadInput(Exception):
    """The samples do not fit the model."""


class ModelReader:
    """Answers requests; keeps the model that was used last."""

    def __init__(self) -> None:
        self._held: tuple[Any, Any] | None = None

    def answer(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        """Export or predict."""
        run_dir = Path(header["run_dir"])
        if header["do"] == "export":
            return self._export(run_dir, Path(header["output"]))
        entries = np.frombuffer(body, header["type"]).reshape(header["shape"])
        return self._predict(run_dir, entries)

    def _export(self, run_dir: Path, output: Path) -> tuple[Header, bytes]:
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        checkpoint = self._newest(run_dir)
        RunFolder(run_dir).write_model(checkpoint, output)
        return {"step": checkpoint.step}, b""

    def _predict(self, run_dir: Path, entries: np.ndarray[Any, Any]) -> tuple[Header, bytes]:
        import torch  # noqa: PLC0415

        from coordinator.inspection.saved_run import load_model  # noqa: PLC0415

        checkpoint = self._newest(run_dir)
        if self._held is None or self._held[0] != checkpoint:
            self._held = None  # two need not fit
            self._held = (checkpoint, load_model(run_dir, checkpoint)[1])
        try:
            output = self._held[1].evaluate(torch.from_numpy(entries.copy()))
        except (JobError, RuntimeError, ValueError, IndexError) as error:
            raise BadInput(f"input: {error}") from error
        found = output.to(torch.float32).contiguous().numpy()
        return {"shape": list(found.shape)}, found.tobytes()

    def _newest(self, run_dir: Path) -> Any:
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        try:
            newest = RunFolder(run_dir).best_checkpoint()
        except JobError as error:
            # where the service keeps its files is not the client's business
            raise DamagedCheckpoint(str(error).replace(f"{run_dir}/", "")) from error
        if newest is None:
            raise NoCheckpoint("the job has saved nothing yet")
        return newest


def main() -> None:
    """Answer until the service is gone."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    answer_one_by_one(ModelReader().answer)
