"""Runs a job in this process by the reference: what train() gives, without Ray and its processes.

A run on workers has the bits of this one, and continues from its folder.
"""

from pathlib import Path
from typing import Any

import torch

from coordinator.experiments.sweep.one_process import train_in_one_process
from coordinator.job.resolve import resolve
from coordinator.launch.train import Run, Viewer
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Event, Progress
from dfa_tasks import Task


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

    def emit(one: Event | Progress) -> None:
        shown.progress(one) if isinstance(one, Progress) else shown.event(one)

    begin = "resume" if resume else "new"
    summary = train_in_one_process(job, folder, emit, torch.device("cpu"), begin)
    return Run(folder.path, job, summary)
