"""Runs a sweep to its end, or until it is interrupted, and writes what was found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.experiments.sweep.beginning import extended
from coordinator.experiments.sweep.on_tune import run_trials
from coordinator.experiments.sweep.picture import draw_sweep
from coordinator.experiments.sweep.record import Sweep, SweepFolder, Trial
from coordinator.job.resolve import Job
from coordinator.job.spec import to_yaml
from coordinator.launch.interrupts import noted_interrupts
from coordinator.launch.ray_session import ray_for
from dfa_core import JobError, TrainingFailed
from dfa_core.atomic_file import write_atomically

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sweeping:
    """A sweep in its folder, which is locked; job: any of its jobs."""

    folder: SweepFolder
    sweep: Sweep
    job: Job

    @classmethod
    def new(cls, folder: Path, sweep: Sweep, job: Job) -> "Sweeping":
        """Begin a sweep in a folder.

        Raises JobError where the folder holds a sweep already.
        """
        there = SweepFolder(folder)
        if there.record.exists():
            raise JobError(
                f"{folder}: holds a sweep already; continue it with errorcast sweep {folder} "
                f"--resume, or name another --dir"
            )
        return cls(there, sweep, job)

    @classmethod
    def resumed(cls, folder: Path, trials: int | None, tell: Tell) -> "Sweeping":
        """Continue the sweep in a folder; trials: new number of each method, if it has to grow.

        Raises JobError where there is no sweep.
        """
        there = SweepFolder(folder)
        sweep = there.read()
        if trials is not None and trials != sweep.definition.trials:
            sweep = extended(sweep, trials, tell)
        return cls(there, sweep, sweep.definition.job(sweep.trials[0].method, {}))

    def run(self, ray_address: str | None, changed: Callable[[], None]) -> bool:
        """Run the trials that have not ended; return whether all have ended.

        changed: called whenever a trial has reported. Raises JobError where the cluster cannot be
        reached, and TrainingFailed where all trials failed.
        """
        sweep, needed = self.sweep, len(self.job.grid) if self.sweep.definition.distributed else 1
        with noted_interrupts() as noted:
            if sweep.waiting():
                with ray_for(needed, self.job.settings.resources.cpus, ray_address):
                    run_trials(self.folder, sweep, self.job, lambda: bool(noted), changed)
            if sweep.waiting():
                return False
        self._write()
        failed = [trial for trial in sweep.trials if trial.state == "failed"]
        if len(failed) == len(sweep.trials):
            first = failed[0]
            raise TrainingFailed(
                f"all {len(failed)} trials failed; {first.name}: {first.failed} (see "
                f"{self.folder.record})"
            )
        return True

    def _write(self) -> None:
        """Write the best job files and the picture. Raises OSError."""
        self.folder.keep(self.sweep)
        for method in self.sweep.definition.methods:
            best = self.sweep.best(method)
            if best is not None:
                text = _best_job(self.sweep, best)
                write_atomically(self.folder.best_job(method), text.encode())
        draw_sweep(self.sweep, self.folder.path / "sweep.png")


def _best_job(sweep: Sweep, best: Trial) -> str:
    """Return a job file of a trial, which says where it is from."""
    definition = sweep.definition
    trials = len(sweep.of_method(best.method))
    about = f"# {best.name}, the best of {trials} trial(s): {definition.metric} {best.score:.4f}"
    text = to_yaml(definition.job(best.method, best.values).spec)
    return text.replace("---\n", f"---\n{about}\n", 1)
