"""The child process that reads trained models: it exports their weights and predicts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.service.processes.frames import Frame, Header, answer_one_by_one
from dfa_core.errors import JobError

_NONE = "the job has no checkpoint yet"


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

        with _named_for_clients(run_dir):
            step = RunFolder(run_dir).write_model(output)
        if step is None:
            raise NoCheckpoint(_NONE)
        return {"step": step}, b""

    def _predict(self, run_dir: Path, entries: np.ndarray[Any, Any]) -> Frame:
        import torch  # noqa: PLC0415

        model = self._newest_model(run_dir)
        try:
            output = model.evaluate(torch.from_numpy(entries.copy()))
        except (JobError, RuntimeError, ValueError, IndexError) as error:
            raise BadInput(f"input: {error}") from error
        found = output.to(torch.float32).contiguous().numpy()
        return {"shape": list(found.shape)}, found.tobytes()

    def _newest_model(self, run_dir: Path) -> Any:
        from coordinator.inspection.saved_run import load_model  # noqa: PLC0415
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        def load(checkpoint: Any) -> Any:
            if self._loaded is None or self._loaded[0] != checkpoint:
                self._loaded = None  # memory may not hold two models
                self._loaded = (checkpoint, load_model(run_dir, checkpoint)[1])
            return self._loaded[1]

        with _named_for_clients(run_dir):
            model = RunFolder(run_dir).load_best(load)
        if model is None:
            raise NoCheckpoint(_NONE)
        return model


@contextmanager
def _named_for_clients(run_dir: Path) -> Iterator[None]:
    """Raise DamagedCheckpoint for a JobError, without the place of the service's files."""
    try:
        yield
    except JobError as error:
        raise DamagedCheckpoint(str(error).replace(f"{run_dir}/", "")) from error


def main() -> None:
    """Answer requests until the service ends."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    answer_one_by_one(ModelReader().answer)
