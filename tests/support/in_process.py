"""Runs a job in this process by the reference: what train() gives, without Ray and its processes.

A run on workers has the bits of this one, and continues from its folder.
"""

import json
from pathlib import Path
from typing import Any

from coordinator.engine.prefetcher import Prefetcher
from coordinator.engine.single_process import SingleProcess
from coordinator.job.resolve import resolve
from coordinator.launch.train import Run, Viewer
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Event, Progress
from coordinator.training.trainer import Trainer
from dfa_core import Reference
from dfa_tasks import Task
from dfa_tasks.source import as_source


class Nobody:
    """A viewer that shows nothing."""

    def event(self, event: Event) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass


def train_here(
    task: str | Task,
    run_dir: Path,
    *,
    resume: bool = False,
    viewer: Viewer | None = None,
    **settings: Any,
) -> Run:
    """Train; settings: as those of coordinator.train, which need no worker."""
    job, folder, shown = resolve(task, settings), RunFolder(run_dir), viewer or Nobody()
    folder.prepare(job.spec, resume)
    splits = job.task.splits()
    folder.keep(job.task.files)
    source = as_source(splits.train, job.settings.batch_size, job.settings.seed)
    rule = job.rule(source.steps_per_epoch)
    prefetcher = Prefetcher(source, job.settings.batch_size, job.settings.microbatches)
    reference = Reference(job.model, job.task.loss, rule, job.method)

    def emit(one: Event | Progress) -> None:
        shown.progress(one) if isinstance(one, Progress) else shown.event(one)

    engine = SingleProcess(reference, prefetcher)
    trainer = Trainer(job, engine, splits, rule, source.steps_per_epoch, folder, emit)
    try:
        summary = trainer.run()
    finally:
        prefetcher.close()
    folder.write_model(folder.model)
    folder.result.write_text(json.dumps(summary), encoding="utf-8")
    return Run(folder.path, job, summary)
