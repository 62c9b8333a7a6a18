"""Trains one contender on workers of its own, stretch by stretch, and evaluates it in between.

Seconds are those of training alone, without the evaluations.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from types import TracebackType
from typing import Self

from torch import Tensor

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import Evaluation
from coordinator.engine.single_process import SingleProcess
from coordinator.experiments.contender import Contender
from coordinator.experiments.errorcast_side import ErrorcastSide
from coordinator.job.user_code import pack
from dfa_core import Reference
from dfa_speedup.bench_workers import BenchWorkers
from dfa_speedup.comparison import period
from dfa_speedup.peers import OWN_SIDES
from dfa_speedup.workload import Configuration
from workers.placement import WorkerResources

Stretches = Generator[tuple[float, dict[str, float]]]


class Runner:
    """The workers of a contender; they start here, and stop when the context ends."""

    def __init__(self, contender: Contender, stop_if_asked: Callable[[], None]) -> None:
        """Start the workers. Ray must be there.

        stop_if_asked: called again and again in each wait; what it raises ends the wait.
        """
        settings = contender.job.settings
        resources = settings.resources
        self.contender = contender
        self._payload = pack(contender.workload, settings.working_dir)
        each = WorkerResources(resources.cpus, resources.gpus, resources.threads)
        blocks, limit_s = len(contender.job.grid), resources.timeout_s
        self.workers = BenchWorkers(self._payload, blocks, each, limit_s, stop_if_asked)
        self._rank0: ErrorcastSide | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._rank0 is not None:
            self._rank0.stop()
        self.workers.stop()

    def trial(self, configuration: Configuration, steps: int) -> list[float]:
        """Train `steps` steps on new weights, and forget them; return the seconds of all but one.

        Raises PeerFailed.
        """
        if configuration.schedule in OWN_SIDES:
            trial, _ = self._errorcast().first_trial(self.workers, configuration, steps)
            seconds = trial.seconds
        else:
            done, _ = self.workers.prepare(configuration, steps)
            seconds = period(done)
        self.workers.forget()
        return seconds

    def stretches(self, configuration: Configuration) -> Stretches:
        """Train from the first weights; yield seconds of training and scores of each stretch.

        Raises PeerFailed.
        """
        own = configuration.schedule in OWN_SIDES
        return self._of_errorcast(configuration) if own else self._of_peer(configuration)

    def _errorcast(self) -> ErrorcastSide:
        if self._rank0 is None:
            settings = self.contender.job.settings
            self._rank0 = ErrorcastSide(self._payload, settings.resources, settings.heads)
            self._rank0.enter_race(pack(self.contender.criterion.task, settings.working_dir))
        return self._rank0

    def _of_errorcast(self, configuration: Configuration) -> Stretches:
        for first, last in self.contender.criterion.stretches():
            yield self._errorcast().stretch(self.workers, configuration, first, last)

    def _of_peer(self, configuration: Configuration) -> Stretches:
        workload, criterion = self.contender.workload, self.contender.criterion
        test, rule = self.contender.job.splits().test, replace(workload.rule, staleness=0)
        reference = Reference(workload.model, workload.loss, rule)
        engine = SingleProcess(reference, Prefetcher(_NoData(), 1, 1))
        evaluation = Evaluation(engine, criterion.task, rule.seed)
        for first, last in criterion.stretches():
            done = self.workers.train(configuration, first, last)
            states = self.workers.states(configuration)
            for module in reference.trained_modules():
                module.load_state(*states[module.name])
            yield max(sum(worker.seconds) for worker in done), evaluation.scores(test)


class _NoData:
    """Training data for an engine that only evaluates."""

    steps_per_epoch = 1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        raise AssertionError(f"this engine does not train, but step {step} was requested")
