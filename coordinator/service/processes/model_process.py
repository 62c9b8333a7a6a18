"""The child process that reads trained models: it exports their weights and predicts."""

from pathlib import Path
from typing import Any

import numpy as np

from coordinator.service.processes.frames import Frame, Header, answer_one_by_one
from dfa_core.errors import JobError


class NoCheckpoint(Exception):
    """The job has no checkpoint yet."""


class DamagedCheckpoint(Exception):
    """A file of a checkpoint is damaged."""


class BadInput(Exception):
    """The samples do not fit the model."""


class ModelReader:
    """Answers requests; keeps the last model it used in memory."""

    def __init__(self) -> None:
        self._loaded: tuple[Any, Any] | None = None

    def answer(self, header: Header, body: bytes) -> Frame:
        """Answer one request: export or predict."""
        run_dir = Path(header["run_dir"])
        if header["do"] == "export":
            return self._export(run_dir, Path(header["output"]))
        entries = np.frombuffer(body, header["type"]).reshape(header["shape"])
        return self._predict(run_dir, entries)

    def _export(self, run_dir: Path, output: Path) -> Frame:
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        checkpoint = self._newest(run_dir)
        RunFolder(run_dir).write_model(checkpoint, output)
        return {"step": checkpoint.step}, b""

    def _predict(self, run_dir: Path, entries: np.ndarray[Any, Any]) -> Frame:
        import torch  # noqa: PLC0415

        from coordinator.inspection.saved_run import load_model  # noqa: PLC0415

        checkpoint = self._newest(run_dir)
        if self._loaded is None or self._loaded[0] != checkpoint:
            self._loaded = None  # memory may not hold two models
            self._loaded = (checkpoint, load_model(run_dir, checkpoint)[1])
        try:
            output = self._loaded[1].evaluate(torch.from_numpy(entries.copy()))
        except (JobError, RuntimeError, ValueError, IndexError) as error:
            raise BadInput(f"input: {error}") from error
        found = output.to(torch.float32).contiguous().numpy()
        return {"shape": list(found.shape)}, found.tobytes()

    def _newest(self, run_dir: Path) -> Any:
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        try:
            newest = RunFolder(run_dir).best_checkpoint()
        except JobError as error:
            # clients must not learn where the service keeps its files
            raise DamagedCheckpoint(str(error).replace(f"{run_dir}/", "")) from error
        if newest is None:
            raise NoCheckpoint("the job has no checkpoint yet")
        return newest


def main() -> None:
    """Answer requests until the service ends."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    answer_one_by_one(ModelReader().answer)
