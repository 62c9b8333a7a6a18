"""Runs a job in this process by the reference: what train() gives, without Ray and its processes.

A run on workers has the bits of this one, and continues from its folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import check_parts
from coordinator.engine.single_process import SingleProcess
from coordinator.engine.trials import DataTrials
from coordinator.engine.waits import Waits
from coordinator.job.resolve import Job, resolve
from coordinator.launch.train import Run, Viewer
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Event, Progress, Warned
from coordinator.training.tracked import tracked
from coordinator.training.trainer import Trainer
from dfa_core import Reference
from dfa_core.balance.trial import try_out
from dfa_tasks import Task
from dfa_tasks.source import as_source
from dfa_tasks.stream import Stream


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
    job, folder = resolve(task, settings), RunFolder(run_dir)
    with folder.opened(job.spec, "resume" if resume else "new"):
        summary = _train(job, folder, viewer or Nobody())
    return Run(folder.path, job, summary)


def _train(job: Job, folder: RunFolder, viewer: Viewer) -> Mapping[str, Any]:
    splits = job.splits()
    source = as_source(splits.train, job.settings.batch_size, job.settings.seed)
    rule = job.rule(source.steps_per_epoch)
    prefetcher = Prefetcher(source, job.settings.batch_size, job.settings.microbatches)
    trials = DataTrials(job.task, splits, prefetcher, job.settings.seed)
    stream = source if isinstance(source, Stream) else None
    for warning in folder.begin_run(Origin.of(job, splits, stream), job.task.files):
        viewer.event(Warned(warning))
    try_out(job.model, job.task.weighted_loss, rule, trials.each, torch.device("cpu"))
    trials.check_scores()
    reference = Reference(job.model, job.task.weighted_loss, rule)

    def emit(one: Event | Progress) -> None:
        viewer.progress(one) if isinstance(one, Progress) else viewer.event(one)

    engine = SingleProcess(reference, prefetcher)
    engine.settle_loss()
    check_parts(engine.loss, job.task, splits, rule.microbatches)
    try:
        with tracked(job, folder, lambda text: viewer.event(Warned(text)), Waits()) as tracker:
            trainer = Trainer(
                job, engine, splits, rule, source.steps_per_epoch, folder, emit, stream, tracker
            )
            summary = trainer.run()
            folder.write_model(folder.model)
            folder.write_result(summary)
    finally:
        prefetcher.close()
    return summary
