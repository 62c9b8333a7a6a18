"""Trains a job in this process: the bits of any number of blocks, without their processes."""

from contextlib import ExitStack
from typing import Any

import torch

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import check_parts
from coordinator.engine.single_process import SingleProcess
from coordinator.engine.trials import DataTrials
from coordinator.engine.waits import Waits
from coordinator.job.places import in_folder
from coordinator.job.resolve import Job
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import Begin, RunFolder
from coordinator.training.events import Emit, Warned
from coordinator.training.first_weights import model_to_start_with
from coordinator.training.tracked import tracked
from coordinator.training.trainer import Trainer
from dfa_core import Reference
from dfa_core.balance.trial import try_out
from dfa_tasks.source import as_source
from dfa_tasks.stream import Stream


def train_in_one_process(
    job: Job, folder: RunFolder, emit: Emit, device: torch.device, begin: Begin = "either"
) -> dict[str, Any]:
    """Train a job from its newest checkpoint to its end; return the run's summary.

    It has the numbers of the job on its blocks, replicas and heads.

    begin: what the run wants of its folder.

    Raises JobError and TrainingFailed as a job on blocks does.
    """
    with ExitStack() as at_end:
        at_end.enter_context(folder.opened(job.spec, begin))
        at_end.enter_context(in_folder(job.settings.working_dir))
        return _train(job, folder, emit, device, at_end)


def _train(
    job: Job, folder: RunFolder, emit: Emit, device: torch.device, at_end: ExitStack
) -> dict[str, Any]:
    settings, splits = job.settings, job.splits()
    source = as_source(splits.train, settings.batch_size, settings.seed)
    prefetcher = Prefetcher(source, settings.batch_size, settings.microbatches)
    at_end.callback(prefetcher.close)
    trials = DataTrials(job.task, splits, prefetcher, settings.seed)
    stream = source if isinstance(source, Stream) else None
    for warning in folder.begin_run(Origin.of(job, splits, stream), job.task.files):
        emit(Warned(warning))
    rule, loss = job.rule(source.steps_per_epoch), job.task.weighted_loss
    trials.check_cut(job.model)
    try_out(job.model, loss, rule, trials.each, device)
    for warning in trials.check_scores():
        emit(Warned(warning))
    model = model_to_start_with(job, folder, emit)
    reference = Reference(model, loss, rule, settings.replicas, settings.heads)
    reference.to(device)
    engine = SingleProcess(reference, prefetcher)
    engine.settle_loss()
    check_parts(engine.loss, job.task, splits, rule.microbatches)
    waits = Waits()
    at_end.callback(waits.close)
    with tracked(job, folder, lambda line: emit(Warned(line)), waits) as tracker:
        trainer = Trainer(
            job, engine, splits, rule, source.steps_per_epoch, folder, emit, stream, tracker
        )
        summary = trainer.run()
        folder.write_model(folder.model)
        folder.write_result(summary)
    return summary
