"""Measures a job against backpropagation, and keeps the results as it goes."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from coordinator.experiments.bench_folder import BenchFolder, Record, check_same
from coordinator.experiments.bench_results import results, write_report_md, write_views
from coordinator.experiments.errorcast_side import ErrorcastSide
from coordinator.experiments.race import Target
from coordinator.experiments.time_to_target import run_race
from coordinator.job.resolve import Job, fingerprint
from coordinator.job.spec import to_settings
from coordinator.job.user_code import pack
from coordinator.launch.interrupts import noted_interrupts
from coordinator.launch.ray_session import ray_for
from coordinator.planning.workload import timing_workload
from coordinator.runs.valid_json import json_text
from dfa_core import JobError, TrainingFailed
from dfa_speedup.bench_workers import BenchWorkers
from dfa_speedup.comparison import Comparison, Progress, to_measure
from dfa_speedup.results.machine import machine
from workers.placement import WorkerResources

UNFINISHED = "it was not finished"


class Bench:
    """One comparison of a job; `stopped` says why it ended early."""

    def __init__(
        self,
        job: Job,
        microbatches: Sequence[int],
        folder: BenchFolder,
        command: str,
        progress: Progress,
        compiled: bool = False,
        earlier: Record | None = None,
        ray_address: str | None = None,
    ) -> None:
        """Measure the model layer by layer.

        command: what was typed. compiled: measure compiled peers too. earlier: what was measured
        an earlier run, to continue.

        Raises JobError for a job that cannot be compared, and for measurements of another one.
        """
        settings = job.settings
        if settings.replicas > 1:
            raise JobError("replicas: the comparison gives each side one replica; set it to 1")
        identity, here = identity_of(job), machine()
        before, race = None, None
        if earlier is not None:
            check_same(folder.path, earlier, identity, here)
            before, race = earlier.measurements, earlier.race
        self.job, self.workload = job, timing_workload(job, microbatches)
        found = to_measure(self.workload, len(job.grid), microbatches, compiled, before)
        self.record = Record(1, identity, here, found, race)
        self.stopped: KeyboardInterrupt | JobError | TrainingFailed | None = None
        self._folder, self._command, self._progress = folder, command, progress
        self._ray_address, self._ended = ray_address, False
        self._noted: list[int] = []  # signals that ask to stop

    def run(self, rounds: int, steps: int, target: Target | None, show: Callable[[], None]) -> None:
        """Measure what is not measured yet. Where that ends early, `stopped` says why.

        show: shows the results; called before anything is stopped, because a signal that ends the
        comparison may have ended Ray, too, and then nothing can be stopped in order.

        Raises what ended it where nothing could be measured.
        """
        cpus = self.job.settings.resources.cpus
        with ray_for(len(self.job.grid), cpus, self._ray_address), noted_interrupts() as noted:
            self._noted = noted
            with self._workers() as (workers, ours), self._shown_where_stopped(show):
                found = self.record.measurements
                comparison = Comparison(
                    self.workload, workers, ours, found, self._progress, self.keep
                )
                comparison.run(rounds, steps)
            if self.stopped is None and target is not None:
                with self._shown_where_stopped(show):
                    self._race(target)
            if self.stopped is None:
                self._ended = True
                show()

    def _stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt if the user has pressed Ctrl-C."""
        if self._noted:
            self._noted.clear()  # what ends now is not to be ended again
            raise KeyboardInterrupt

    @contextmanager
    def _shown_where_stopped(self, show: Callable[[], None]) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, JobError, TrainingFailed) as error:
            if not self.record.measurements.ours().tried:
                raise
            self.stopped = error
            show()

    @contextmanager
    def _workers(self) -> Iterator[tuple[BenchWorkers, ErrorcastSide]]:
        settings = self.job.settings
        resources = settings.resources
        cores = WorkerResources(resources.cpus, resources.gpus, resources.threads)
        payload = pack(self.workload, settings.working_dir)
        workers = BenchWorkers(
            payload, len(self.job.grid), cores, resources.timeout_s, self._stop_if_asked
        )
        try:
            ours = ErrorcastSide(payload, resources, settings.heads)
            try:
                yield workers, ours
            finally:
                ours.stop()
        finally:
            workers.stop()

    def _race(self, target: Target) -> None:
        race, before = target.race(self.job, self.record.measurements), self.record.race
        race = before if before is not None and race.same(before) else race
        self.record.race = race
        self._progress("training to the target", 0, 1)
        profile, asked = self.workload.profile, self._stop_if_asked
        run_race(race, self.job, target.peer, profile, self.keep, asked)

    def keep(self) -> None:
        """Write what is measured so far; a disk that is full now is reported at the end."""
        with suppress(OSError):
            self._folder.keep(self.record, json_text(self.results(), indent=1))
        self._stop_if_asked()

    def results(self) -> dict[str, Any]:
        """Return the figures of bench.json, as far as they were measured."""
        stopped = self.stopped and (str(self.stopped) or "interrupted")
        stopped = stopped or (None if self._ended else UNFINISHED)
        return results(self.job.task.name, self._command, self.workload, self.record, stopped)

    def write(self) -> None:
        """Write all files of the results. Raises OSError."""
        found = self.results()
        self._folder.keep(self.record, json_text(found, indent=1))
        write_views(self._folder.path, found, self.record.measurements)

    def write_report_md(self) -> Path:
        """Write the results as [model]_[hardware]_[date].md; return its path. Raises OSError."""
        return write_report_md(self._folder.path, self.results())


def identity_of(job: Job) -> dict[str, Any]:
    """Return the settings that a job's figures depend on."""
    given = to_settings(job.spec)
    shape = {name: given[name] for name in ("blocks", "heads", "resources")}
    found: dict[str, Any] = json.loads(json_text(fingerprint(job.spec) | shape))
    return found
