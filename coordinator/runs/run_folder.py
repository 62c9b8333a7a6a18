"""The folder of one run: job, metrics, TensorBoard events, checkpoints, model, picture."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import safetensors
import safetensors.torch
from errorcast.v1.job_pb2 import JobSpec
from torch import Tensor

from coordinator.job.places import same_task
from coordinator.job.resolve import fingerprint
from coordinator.job.settings import DEFAULTS
from coordinator.job.spec import Settings, merge, parse, read_recorded, to_yaml
from coordinator.runs.checkpoint import Checkpoint, newest_checkpoint, remove_after
from coordinator.runs.folders import locked_folder
from coordinator.runs.origin import Origin
from coordinator.runs.valid_json import json_text, numbers
from dfa_core import JobError
from dfa_core.atomic_file import atomic_path
from dfa_core.trained.weight_average import averaged
from workers.state_files import DamagedFile
from workers.storage import Folder, LocalFolder, open_folder

T = TypeVar("T")

# what a run wants of its folder: no run, a run to continue, or either
Begin = Literal["new", "resume", "either"]


class RunFolder:
    """Names and reads the files of a run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[str] = []
        self._rejected: dict[str, str] = {}  # what is wrong with a checkpoint, by its folder
        self.origin: Origin | None = None  # of the run that continues here; checkpoints hold it too
        self._running: JobSpec | None = (
            None  # the job of the run that has the folder, if it is ours
        )
        self.job = path / "job.yaml"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.curves = path / "curves.png"
        self.model = path / "model.safetensors"
        self.tensorboard = path / "tensorboard"
        self.trackers = path / "trackers.json"

    @property
    def checkpoints(self) -> Folder:
        """Return the folder of the run's checkpoints."""
        known = self._running is not None or self.job.is_file()
        place = self.spec().checkpoint.path if known else ""
        return open_folder(place) if place else LocalFolder(self.path / "checkpoints")

    @contextmanager
    def opened(self, spec: JobSpec, begin: Begin) -> Iterator[None]:
        """Take the folder for a run of this job: lock it, then look at it.

        The lock is held inside the block, and dies with the process. What was seen before does not
        count. The run writes once its data is known not to be other data: begin_run().

        Raises JobError when another run uses the folder or the job's checkpoint.path, when the
        folder cannot be written, and as look() does.
        """
        with ExitStack() as held:
            for folder in self._to_lock(spec):
                held.enter_context(locked_folder(folder))
            self.look(spec, begin)
            self._running = spec
            try:
                yield
            finally:
                self._running = None

    def begin_run(self, origin: Origin, files: Mapping[str, str]) -> list[str]:
        """Write job.yaml, origin.json and the task's own files, inside opened().

        origin: what the run is trained from; its checkpoints hold it too.

        Returns what the user should know about the origin.

        Raises JobError as check_origin() does, before anything is written, or where a file of the
        task is there and another one, or where the folder cannot be written.
        """
        began = self.check_origin(origin)
        for name, text in files.items():
            path = self.path / name
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise JobError(
                    f"{path}: differs from the one that the data gives now; put the data back"
                )
        self.origin = origin
        written = {
            **files,
            "origin.json": json.dumps(origin.as_json(), indent=1),
            self.job.name: to_yaml(self.spec()),
        }
        try:
            if not self._saved():  # these are of a run whose checkpoints are gone
                self.result.unlink(missing_ok=True)
                self.trackers.unlink(missing_ok=True)
            for name, text in written.items():
                LocalFolder(self.path).write(name, text.encode())
        except OSError as error:
            raise JobError(f"run folder {self.path} cannot be written: {error}") from error
        return origin.warnings(began)

    def look(self, spec: JobSpec, begin: Begin) -> None:
        """Raise JobError when the folder, or the job's checkpoint.path, is not as `begin` wants it.

        So it does when it holds another job.
        """
        place = spec.checkpoint.path
        saved = self._saved() or (bool(place) and _holds_checkpoints(open_folder(place)))
        if saved and begin == "new":
            raise JobError(
                f"{place or self.path}: holds a run already; continue it with --resume, or name "
                f"another {'checkpoint.path' if place else '--run-dir'}"
            )
        if begin != "new" and self.job.exists():
            self.check_same(spec)
        elif begin == "resume" and not saved:  # checkpoints in another folder are enough
            raise JobError(f"{self.path}: holds no run to resume (there is no job.yaml)")

    def _saved(self) -> bool:
        return _holds_checkpoints(self.checkpoints)

    def _to_lock(self, spec: JobSpec) -> list[Path]:
        """Return the folders on this machine that a run of this job writes to, each once."""
        place = spec.checkpoint.path
        elsewhere = [self.checkpoints, *([open_folder(place)] if place else [])]
        paths = [folder.on_disk for folder in elsewhere]
        outside = {path.resolve() for path in paths if path is not None} - {
            self.path.resolve(),
            (self.path / "checkpoints").resolve(),
        }
        return [self.path, *sorted(outside)]

    def check_same(self, spec: JobSpec) -> None:
        """Raise JobError when the folder holds another job."""
        self._check_same(fingerprint(self.spec()), spec)

    def check_origin(self, origin: Origin) -> Origin | None:
        """Return what the run in this folder began with, None where nothing is known.

        Raises JobError where that is other data.
        """
        newest = self.checkpoint()
        began = newest.origin if newest is not None else None
        for line in began.other_parts(origin).values() if began is not None else ():
            raise JobError(f"{self.path}: {line}; put the data back, or name another --run-dir")
        return began

    def _check_same(self, there: Settings, spec: JobSpec) -> None:
        asked, there = fingerprint(spec), merge(DEFAULTS, there)  # an older one lacks newer fields
        if same_task(str(there.get("task")), asked["task"]):
            there["task"] = asked["task"]
        for name, now in asked.items():
            before = there.get(name)
            if before != now and (
                before or now
            ):  # empty texts and lists are not among the defaults
                raise JobError(
                    f"{self.path}: holds another job: its {name} is {before}, not {now}; name "
                    f"another folder"
                )

    def spec(self) -> JobSpec:
        """Return the job of this run. Raises JobError when there is none."""
        if self._running is not None:
            return self._running
        if not self.job.is_file():
            raise JobError(f"{self.path}: is no run folder (there is no job.yaml)")
        return parse(merge(DEFAULTS, read_recorded(self.job)))

    def checkpoint(
        self, counts: Callable[[Checkpoint], bool] = lambda _: True
    ) -> Checkpoint | None:
        """Return the newest checkpoint; `skipped` then says what is wrong with newer ones.

        Reads manifests only, and the sizes of state files.

        counts: which checkpoints to consider.

        Raises DamagedFile, naming it, when all checkpoints are damaged, and JobError when they are
        of another job than this folder's.
        """
        found, self.skipped = newest_checkpoint(self.checkpoints, counts, self._rejected)
        if found is None and self.skipped:
            raise DamagedFile(f"{self.skipped[0]}, and no checkpoint before it is intact")
        if found is not None:
            self._check_same(found.job, self.spec())
        return found

    def load(
        self,
        load: Callable[[Checkpoint | None], T],
        counts: Callable[[Checkpoint], bool] = lambda _: True,
    ) -> T:
        """Load the newest checkpoint; one with a damaged file is skipped for the one before it.

        load: gets the checkpoint, or None where there is none; called again after a DamagedFile.
        counts: which checkpoints to consider.

        Raises JobError as checkpoint() does.
        """
        while True:
            found = self.checkpoint(counts)
            try:
                return load(found)
            except DamagedFile as damage:
                if found is None:
                    raise
                self._rejected[str(found)] = str(damage)

    def load_best(self, load: Callable[[Checkpoint], T]) -> T | None:
        """Load the checkpoint of the best epoch, where the job chooses one, otherwise the newest.

        Returns None where there is none. Raises JobError as checkpoint() does.
        """
        newest = self.checkpoint()
        best = newest.state.best if newest is not None else None
        return self.load(
            lambda found: None if found is None else load(found),
            lambda found: best is None or found.step == best.step,
        )

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: the run was rolled back."""
        remove_after(self.checkpoints, step)

    def write_result(self, summary: Mapping[str, Any]) -> None:
        """Write the summary of a run that has ended. Raises OSError when the write fails."""
        text = json_text(summary, indent=1)
        LocalFolder(self.path).write(self.result.name, text.encode())

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of a run that has ended, None where none has."""
        if not self.result.is_file():
            return None
        summary: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
        return summary | {"metrics": numbers(summary.get("metrics", {}))}

    def curve(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        return [numbers(json.loads(line)) for line in lines if line.endswith("}")]

    def write_model(self, output: Path) -> int | None:
        """Write weights() into one safetensors file; return their step, None if there are none.

        Raises JobError as weights(), OSError when the write fails.
        """
        found = self.weights()
        if found is None:
            return None
        checkpoint, weights = found
        write_weights(output, weights, checkpoint)
        return checkpoint.step

    def weights(self) -> tuple[Checkpoint, dict[str, Tensor]] | None:
        """Return the checkpoint of load_best() and its weights, None where there is no checkpoint.

        Names are `layers.3.<weight>` and `head.<weight>`.

        Raises JobError when all checkpoints are damaged.
        """
        return self.load_best(lambda checkpoint: (checkpoint, _weights(checkpoint)))


def write_weights(output: Path, weights: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    """Write weights of a checkpoint into a safetensors file, whole or not at all.

    Raises OSError when that fails.
    """
    # one entry alone: several would be written in an order of chance, and equal runs give equal
    # bytes
    note = {"errorcast": json.dumps({"task": checkpoint.job["task"], "step": checkpoint.step})}
    with atomic_path(output) as unfinished:
        try:
            safetensors.torch.save_file(weights, unfinished, note)
        except safetensors.SafetensorError as error:  # so the library reports what the disk says
            raise OSError(str(error)) from error


def _holds_checkpoints(folder: Folder) -> bool:
    return any(name.startswith("step-") for name in folder.names())


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for module in checkpoint.modules.files:
        prefix = module if module == "head" else f"layers.{int(module.removeprefix('layer-'))}"
        for name, tensor in averaged(checkpoint.modules.read(module)[0]).items():
            weights[f"{prefix}.{name}"] = tensor
    return weights
