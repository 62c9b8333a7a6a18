"""The child process that reads trained models: it exports their weights and predicts."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.service.processes.frames import Frame, Header, answer_one_by_one
from dfa_core.errors import JobError

_NONE = "the job has no checkpoint yet"
_GONE = "the checkpoint of step {}, which this call began with, was replaced; call again"


class NoCheckpoint(Exception):
    """The job has no checkpoint yet."""


class DamagedCheckpoint(Exception):
    """A file of a checkpoint is damaged."""


class BadInput(Exception):
    """The samples do not fit the model."""


class ModelReader:
    """Answers requests; keeps the last model it used in memory."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    def answer(self, header: Header, body: bytes) -> Frame:
        """Answer one request: export or predict."""
        run_dir = Path(header["run_dir"])
        if header["do"] == "export":
            return self._export(run_dir, Path(header["output"]))
        sys.path.extend(f for f in header.get("folders", ()) if f not in sys.path)
        entries = np.frombuffer(body, header["type"]).reshape(header["shape"])
        return self._predict(run_dir, entries, header["step"], header["bytes"])

    def _export(self, run_dir: Path, output: Path) -> Frame:
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        with _named_for_clients(run_dir):
            step = RunFolder(run_dir).write_model(output)
        if step is None:
            raise NoCheckpoint(_NONE)
        return {"step": step}, b""

    def _predict(
        self, run_dir: Path, entries: np.ndarray[Any, Any], step: int | None, most: int
    ) -> Frame:
        """Return the outputs of the first samples, as many as fit, but at least of one.

        step: of the weights; None takes the newest.
        most: bytes of the outputs.
        """
        import torch  # noqa: PLC0415

        found = self._model(run_dir, step)
        samples, rows = torch.from_numpy(entries.copy()), len(entries)
        try:
            if rows > 1 and not found.whole:
                rows = min(rows, max(1, most // _output_bytes(found.reference, samples)))
            output = found.reference.evaluate(samples[:rows])
        except (JobError, RuntimeError, ValueError, IndexError) as error:
            raise BadInput(f"input: {error}") from error
        outputs = output.to(torch.float32).contiguous().numpy()
        header = {"shape": list(outputs.shape), "samples": rows, "step": found.checkpoint.step}
        return header, outputs.tobytes()

    def _model(self, run_dir: Path, step: int | None) -> "_Loaded":
        from coordinator.inspection.saved_run import load_model  # noqa: PLC0415
        from coordinator.runs.run_folder import RunFolder  # noqa: PLC0415

        def load(checkpoint: Any) -> _Loaded:
            if self._loaded is None or self._loaded.checkpoint != checkpoint:
                self._loaded = None  # memory may not hold two models
                job, reference = load_model(run_dir, checkpoint)
                self._loaded = _Loaded(checkpoint, reference, job.task.full_batch)
            return self._loaded

        def of_step(checkpoint: Any) -> bool:
            return bool(checkpoint.step == step)

        folder = RunFolder(run_dir)
        with _named_for_clients(run_dir):
            if step is None:
                found = folder.load_best(load)
            else:
                found = folder.load(lambda c: None if c is None else load(c), of_step)
        if found is None:
            raise NoCheckpoint(_NONE if step is None else _GONE.format(step))
        return found


@dataclass(frozen=True)
class _Loaded:
    """A checkpoint, its model, and whether samples belong together: then they cannot be cut."""

    checkpoint: Any
    reference: Any
    whole: bool


def _output_bytes(reference: Any, samples: Any) -> int:
    """Return the bytes of one sample's output; 1 if one sample alone cannot be computed."""
    try:
        return max(1, 4 * int(reference.evaluate(samples[:1]).numel()))
    except (JobError, RuntimeError, ValueError, IndexError):
        return 1


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
