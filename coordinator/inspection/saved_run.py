"""Loads a finished run into one process, to evaluate or inspect it."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from shlex import quote

import torch
from torch import Tensor

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import evaluate, samples_at_once
from coordinator.engine.single_process import SingleProcess
from coordinator.job.places import in_folder
from coordinator.job.resolve import Job, resolve_spec
from coordinator.runs.checkpoint import Checkpoint, all_checkpoints
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import RunFolder
from dfa_core import Activations, JobError, Reference, alignment
from dfa_core.activations import tensors
from dfa_tasks import Splits
from dfa_tasks.registry import split_file
from dfa_tasks.source import as_source, chunks


class SavedRun:
    """The model of one of a run's checkpoints, and its data."""

    def __init__(
        self,
        job: Job,
        reference: Reference,
        prefetcher: Prefetcher,
        splits: Splits,
        checkpoint: Checkpoint,
    ) -> None:
        self.job, self.step = job, checkpoint.step
        self._reference, self._prefetcher, self._splits = reference, prefetcher, splits
        began = checkpoint.origin
        with self._at_home():
            now = Origin.of(job, splits)
        self._other = {} if began is None else began.other_parts(now)
        self._warnings = now.warnings(began)

    @property
    def warnings(self) -> list[str]:
        """Return what differs from when the run began, a line each."""
        return [*self._other.values(), *self._warnings]

    def _check(self, part: str) -> None:
        """Raise JobError where a part of the data is not the one that the run had."""
        if part in self._other:
            raise JobError(f"{self._other[part]}; put the data back")

    def scores(self) -> dict[str, float]:
        """Return the test loss and the task's metrics. Raises JobError for other test data."""
        self._check("test")
        engine = SingleProcess(self._reference, self._prefetcher)
        with self._at_home():
            engine.settle_loss()
            return evaluate(engine, self.job.task, self._splits.test, self.job.settings.seed)

    def alignment(self) -> list[tuple[str, float]]:
        """Return (layer, cosine with the exact gradient) on the batch of the next step.

        Raises JobError for other training data.
        """
        self._check("training")
        with self._at_home():
            batch = self._prefetcher.batch(self.step)
        cosines = alignment(self._reference, self.step, *batch)
        labels = [layer.label for layer in self._reference.layers]
        return list(zip(labels, cosines, strict=True))

    @property
    def sample(self) -> Tensor:
        """Return the input of one test sample."""
        with self._at_home():
            x, _ = next(chunks(self._splits.test, 1, self.job.settings.seed))
        return x[0]

    def outputs(self, x: Tensor) -> Tensor:
        """Return the head's outputs, (n, ...), for inputs, (n, ...)."""
        return self._reference.evaluate(x)

    def hidden(self, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """Return a layer's outputs for the test samples, (n, features), and their classes, (n,).

        layer: counts from 0; None takes the last. If a layer has several outputs, the first is
            returned.

        Raises JobError when there is no such layer, and for other test data.
        """
        self._check("test")
        layers = self._reference.layers
        index = len(layers) - 1 if layer is None else layer
        if not 0 <= index < len(layers):
            raise JobError(f"--layer: {index} is not between 0 and {len(layers) - 1}")
        features, classes = [], []
        with self._at_home():
            test, seed = self._splits.test, self.job.settings.seed
            for x, target in chunks(test, samples_at_once(self.job.task, test), seed):
                h: Activations = x
                with torch.no_grad():
                    for module in layers[: index + 1]:
                        h = module.evaluate(h)
                features.append(tensors(h)[0].flatten(1).float())
                classes.append(target if target.dim() == 1 else target[:, 0])
        return torch.cat(features), torch.cat(classes)

    def _at_home(self) -> AbstractContextManager[None]:
        """Return a context in which the data set's relative paths lead to its files."""
        return in_folder(self.job.settings.working_dir)


def load_model(folder: Path, checkpoint: Checkpoint) -> tuple[Job, Reference]:
    """Return the job of a run folder, and its whole model with a checkpoint's weights.

    Raises JobError when either cannot be read.
    """
    job = resolve_spec(RunFolder(folder).spec())
    return job, _reference(job, checkpoint, steps_per_epoch=1)  # only training uses the number


def open_run(path: Path, data_dir: str | None = None) -> SavedRun:
    """Load the checkpoint of a run's best epoch, if the job chooses one, otherwise the newest.

    data_dir: replaces the folder of the data sets that the run was started with.

    Raises JobError when there is no run, no checkpoint, or only a damaged one.
    """
    folder = RunFolder(path.absolute())
    spec = folder.spec()
    file = split_file(spec.task)
    if file is not None and file[0].is_absolute() and not file[0].is_file():
        raise JobError(
            f"{path}: the task's file {file[0]} is gone; put it back, or say where it is now: "
            f"errorcast train NEW/PLACE/{file[0].name}:{file[1]} "
            f"--run-dir {quote(str(path))} --resume"
        )
    job = resolve_spec(spec, {} if data_dir is None else {"data_dir": data_dir})
    torch.set_num_threads(job.settings.resources.threads)
    splits = job.splits()
    source = as_source(splits.train, job.settings.batch_size, job.settings.seed)
    prefetcher = Prefetcher(source, job.settings.batch_size, job.settings.microbatches)

    def load(checkpoint: Checkpoint) -> SavedRun:
        reference = _reference(job, checkpoint, source.steps_per_epoch)
        return SavedRun(job, reference, prefetcher, splits, checkpoint)

    found = folder.load_best(load)
    if found is None:
        raise JobError(f"{path}: contains no checkpoint yet")
    return found


def alignments(path: Path, every: int) -> list[tuple[int, list[tuple[str, float]]]]:
    """Return (step, (layer, cosine with the exact gradient)) for a run's checkpoints.

    Each is measured on the batch of the run's next step.

    every: only checkpoints whose step is a multiple of this.
    """
    folder = RunFolder(path)
    job = resolve_spec(folder.spec())
    torch.set_num_threads(job.settings.resources.threads)
    source = as_source(job.splits().train, job.settings.batch_size, job.settings.seed)
    measured = []
    for checkpoint in all_checkpoints(folder.checkpoints):
        if checkpoint.step % every:
            continue
        reference = _reference(job, checkpoint, source.steps_per_epoch)
        with in_folder(job.settings.working_dir):
            batch = source.batch(checkpoint.step)
        cosines = alignment(reference, checkpoint.step, *batch)
        labels = [layer.label for layer in reference.layers]
        measured.append((checkpoint.step, list(zip(labels, cosines, strict=True))))
    return measured


def _reference(job: Job, checkpoint: Checkpoint, steps_per_epoch: int) -> Reference:
    rule = replace(job.rule(steps_per_epoch), staleness=0)  # nothing is trained here
    with in_folder(job.settings.working_dir):  # a factory may read files
        reference = Reference(job.model, job.task.weighted_loss, rule)
    for module in reference.trained_modules():
        module.load_state(*checkpoint.modules.read(module.name))
    return reference
