"""The folder of one run: job, metrics, TensorBoard events, checkpoints, model, picture."""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from errorcast.v1.job_pb2 import JobSpec
from torch import Tensor

from coordinator.job.resolve import fingerprint
from coordinator.job.settings import DEFAULTS
from coordinator.job.spec import Settings, merge, parse, read_yaml, to_yaml
from coordinator.runs.checkpoint import Checkpoint, newest_whole
from dfa_core import JobError
from workers.storage import Folder, LocalFolder, open_folder

_LOCK_S = 8.0  # Ray takes five seconds to kill a process that was stopped


class RunFolder:
    """Names and reads what lies in a run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[str] = []
        self.job = path / "job.yaml"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.curves = path / "curves.png"
        self.model = path / "model.safetensors"
        self.tensorboard = path / "tensorboard"

    @property
    def checkpoints(self) -> Folder:
        """Return where the run's checkpoints go."""
        place = self.spec().checkpoint.path if self.job.is_file() else ""
        return open_folder(place) if place else LocalFolder(self.path / "checkpoints")

    def prepare(self, spec: JobSpec, resume: bool) -> None:
        """Make the folder ready for a run of this job, and write job.yaml.

        Raises JobError when it cannot be written, holds another job, or holds a run already and
        `resume` was not asked for.
        """
        place = spec.checkpoint.path
        saved = [n for n in self.checkpoints.names() if n.startswith("step-")]
        elsewhere = open_folder(place).names() if place else []
        saved += [n for n in elsewhere if n.startswith("step-")]
        if saved and not resume:
            raise JobError(
                f"{place or self.path}: holds a run already; go on with --resume, or name another "
                f"{'checkpoint.path' if place else '--run-dir'}"
            )
        if resume and self.job.exists():
            self._check_same(fingerprint(self.spec()), spec)
        elif resume and not saved:  # where checkpoints lie elsewhere, they are enough
            raise JobError(f"{self.path}: holds no run to resume (there is no job.yaml)")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            LocalFolder(self.path).write(self.job.name, to_yaml(spec).encode())
        except OSError as error:
            raise JobError(f"run folder {self.path} cannot be written: {error}") from error

    def keep(self, files: Mapping[str, str]) -> None:
        """Put a task's own files beside the model.

        Raises JobError when another one is there already: the run was begun on other data.
        """
        for name, text in files.items():
            path = self.path / name
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise JobError(f"{path}: is another one than the data gives now; put back the data")
            LocalFolder(self.path).write(name, text.encode())

    def _check_same(self, there: Settings, spec: JobSpec) -> None:
        asked, there = fingerprint(spec), merge(DEFAULTS, there)  # an older one lacks newer fields
        different = [name for name in asked if there.get(name) != asked[name]]
        if different:
            name = different[0]
            raise JobError(
                f"{self.path}: holds another job: its {name} is {there.get(name)}, not "
                f"{asked[name]}; name another --run-dir"
            )

    def spec(self) -> JobSpec:
        """Return the job of this run. Raises JobError when there is none."""
        if not self.job.is_file():
            raise JobError(f"{self.path}: is no run folder (there is no job.yaml)")
        return parse(merge(DEFAULTS, read_yaml(self.job)))

    def checkpoint(
        self, counts: Callable[[Checkpoint], bool] = lambda _: True
    ) -> Checkpoint | None:
        """Return the newest whole checkpoint; `skipped` says what is wrong with newer ones.

        counts: leaves out others.

        Raises JobError, naming the file, when there are checkpoints and none is whole, and when
        they are of another job than this folder's.
        """
        found, self.skipped = newest_whole(self.checkpoints, counts)
        if found is None and self.skipped:
            raise JobError(f"{self.skipped[0]}, nor is any checkpoint before it whole")
        if found is not None:
            self._check_same(found.job, self.spec())
        return found

    def best_checkpoint(self) -> Checkpoint | None:
        """Return that of the best epoch so far, where the job chooses one, else the newest."""
        newest = self.checkpoint()
        if newest is None or newest.best is None:
            return newest
        step = newest.best.step
        return self.checkpoint(lambda c: c.step == step)

    def forget_behind(self, step: int) -> None:
        """Remove the checkpoints of later steps: the run was rolled back."""
        folder = self.checkpoints
        for name in folder.names():
            digits = name.removeprefix("step-").partition(".")[0]
            if name.startswith("step-") and digits.isdigit() and int(digits) > step:
                folder.child(name).remove("manifest.json")  # first: it counts no more
                folder.remove(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder inside the block; the lock dies with its process.

        Raises JobError when another run has it and keeps it for some seconds.
        """
        folders, checkpoints = [self.path], self.checkpoints
        if isinstance(checkpoints, LocalFolder) and checkpoints.path.parent != self.path:
            folders.append(checkpoints.path)
        with ExitStack() as held:
            for folder in folders:
                held.enter_context(_locked(folder))
            yield

    def curve(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def write_model(self, checkpoint: Checkpoint, output: Path) -> None:
        """Put the weights of a checkpoint into one safetensors file, optimizer state left out.

        Names are `layers.3.<weight>` and `head.<weight>`.

        Raises JobError for a damaged checkpoint, OSError when the disk does not take the file.
        """
        weights: dict[str, Tensor] = {}
        for part in checkpoint.parts.files:
            prefix = part if part == "head" else f"layers.{int(part.removeprefix('layer-'))}"
            for name, tensor in checkpoint.parts.read(part)[0].items():
                if name.startswith("weights/"):
                    weights[f"{prefix}.{name.removeprefix('weights/')}"] = tensor
        note = {"task": str(checkpoint.job["task"]), "step": str(checkpoint.step)}
        unfinished = output.with_name(f".{output.name}.unfinished")
        try:
            safetensors.torch.save_file(weights, unfinished, note)
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise JobError(f"{folder}: another run is using this folder") from error
                time.sleep(0.1)  # of a process that was just killed, it is free in a moment
        yield
