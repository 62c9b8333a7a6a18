"""The folder of one run: job, metrics, TensorBoard events, checkpoints, model, picture."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from errorcast.v1.job_pb2 import JobSpec
from torch import Tensor

from coordinator.checkpoint import newest_whole, read_manifest
from coordinator.resolve import identity
from coordinator.spec import parse, read_yaml, to_yaml
from dfa_core import JobError
from workers.state_files import StateFile, read_state

_LOCK_S = 3.0


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
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

    def prepare(self, spec: JobSpec, resume: bool) -> None:
        """Make the folder ready for a run of this job, and write job.yaml.

        Raises JobError when it cannot be written, holds another job, or holds a run already and
        `resume` was not asked for.
        """
        if self.job.exists():
            if not resume and any(self.checkpoints.glob("step-*")):
                raise JobError(
                    f"{self.path}: holds a run already; go on with --resume, or name another "
                    f"--run-dir"
                )
            if resume:
                self._check_same(spec)
        elif resume:
            raise JobError(f"{self.path}: holds no run to resume (there is no job.yaml)")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.job.write_text(to_yaml(spec), encoding="utf-8")
        except OSError as error:
            raise JobError(f"run folder {self.path} cannot be written: {error}") from error

    def _check_same(self, spec: JobSpec) -> None:
        there, asked = identity(self.spec()), identity(spec)
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
        return parse(read_yaml(self.job))

    def checkpoint(self) -> tuple[Path, int] | None:
        """Return the newest whole checkpoint and its step; `skipped` says what is wrong with newer.

        Raises JobError, naming the file, when there are checkpoints and none is whole.
        """
        found, self.skipped = newest_whole(self.checkpoints)
        if found is None and self.skipped:
            raise JobError(f"{self.skipped[0]}, nor is any checkpoint before it whole")
        return (found, int(read_manifest(found)["step"])) if found else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder inside the block; the lock dies with its process.

        Raises JobError when another run has it and keeps it for some seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            deadline = time.monotonic() + _LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise JobError(f"{self.path}: another run is using this folder") from error
                    time.sleep(0.1)  # of a process that was just killed, it is free in a moment
            yield

    def curve(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def write_model(self, checkpoint: Path, output: Path) -> None:
        """Put the weights of a checkpoint into one safetensors file, optimizer state left out.

        Names are `layers.3.<weight>` and `head.<weight>`.

        Raises JobError for a damaged checkpoint, OSError when the disk does not take the file.
        """
        manifest = read_manifest(checkpoint)
        weights: dict[str, Tensor] = {}
        for part in (StateFile(**entry).part for entry in manifest["parts"]):
            prefix = part if part == "head" else f"layers.{int(part.removeprefix('layer-'))}"
            for name, tensor in read_state(checkpoint, part)[0].items():
                if name.startswith("weights/"):
                    weights[f"{prefix}.{name.removeprefix('weights/')}"] = tensor
        note = {"task": str(manifest["job"]["task"]), "step": str(manifest["step"])}
        unfinished = output.with_name(f".{output.name}.unfinished")
        try:
            safetensors.torch.save_file(weights, unfinished, note)
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)
