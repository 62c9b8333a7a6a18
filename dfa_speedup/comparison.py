"""The comparison: every side runs on the same workers, each peer between two trials of errorcast.

First every side runs at every number of microbatches, and of stages a worker; its best is what has
its fastest step, because other work on the machine can only make a step slower. Then the bests run
in rounds: each peer has a trial between two trials of errorcast, and its step is divided by the
mean of theirs, because a machine's speed drifts from minute to minute. The median of those ratios
is reported.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from dfa_core import JobError, TrainingFailed
from dfa_speedup.bench_worker import Trained
from dfa_speedup.bench_workers import BenchWorkers, PeerFailed
from dfa_speedup.peers import (
    ERRORCAST,
    LIMIT_BP,
    LIMIT_DFA,
    LIMIT_DFA_LOADED,
    ONE_PROCESS_DFA,
    OWN,
    OWN_BACKWARD,
    PEERS,
    PIPELINES,
    bytes_per_step,
    configurations,
    refusal,
)
from dfa_speedup.simulation.costs import Costs, mean_costs
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.spans import bubble
from dfa_speedup.workload import Configuration, Workload
from workers.trace import Span

Progress = Callable[[str, int, int], None]
NO_LINK = Link(0.0, float("inf"))  # one worker, or not measured


@dataclass(frozen=True)
class Trial:
    """Some steps: seconds of each but the first, losses, spans per worker, bytes of all workers.

    shape: of the workers.
    """

    seconds: list[float]
    losses: list[float]
    spans: list[list[Span]]
    bytes_per_step: int
    shape: Shape


class Errorcast(Protocol):
    """errorcast's own side, on the same workers."""

    def trial(self, workers: BenchWorkers, configuration: Configuration, steps: int) -> Trial:
        """Train `steps` steps. Raises PeerFailed."""

    def first_trial(
        self, workers: BenchWorkers, configuration: Configuration, steps: int
    ) -> tuple[Trial, float]:
        """Train `steps` steps; return also the largest worker's peak memory, MB."""


@dataclass
class Measured:
    """One configuration: the seconds of its steps, or the reason why it could not run.

    failed: why it ran no longer in the rounds; what was measured before still counts.
    tried: seconds of the steps of the first trial. rounds: of each later one. ratios: a round's
    median step over that of errorcast's trials before and after it. shape: errorcast's.
    """

    configuration: Configuration
    tried: list[float] = field(default_factory=list)
    rounds: list[list[float]] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    bubbles: list[float] = field(default_factory=list)
    peak_memory_mb: float = 0.0
    bytes_per_step: int = 0
    shape: Shape | None = None
    reason: str = ""
    failed: str = ""

    @property
    def seconds(self) -> list[float]:
        """Return the seconds of all steps of the rounds, or of the first trial without rounds."""
        return [s for steps in self.rounds for s in steps] or self.tried


class Comparison:
    """Measures all sides of a workload on the same workers."""

    def __init__(
        self,
        workload: Workload,
        workers: BenchWorkers,
        errorcast: Errorcast,
        microbatches: Sequence[int],
        progress: Progress,
    ) -> None:
        self.workload, self._workers, self._errorcast = workload, workers, errorcast
        self._progress = progress
        self.workers = len(workers.all)
        self.measured = [
            Measured(configuration)
            for schedule in (*OWN, *PEERS, ONE_PROCESS_DFA)
            for configuration in configurations(schedule, workload, self.workers, microbatches)
        ]
        self.limits = _limits(min(microbatches))
        self.stopped: KeyboardInterrupt | TrainingFailed | None = None
        self.costs: dict[int, list[Costs]] = {}
        self.link = NO_LINK
        self.spans: dict[Configuration, list[list[Span]]] = {}

    def run(self, rounds: int, steps: int) -> None:
        """Try all configurations, then measure each side's best and the layers' costs in rounds.

        Where that is interrupted, or errorcast fails later, `stopped` says so, and what was
        measured until then stays.

        Raises JobError when errorcast itself cannot run.
        """
        try:
            self._run(rounds, steps)
        except (KeyboardInterrupt, TrainingFailed) as error:
            if not self.best(ERRORCAST).tried:  # nothing to compare with
                raise
            self.stopped = error
        for side in self.measured:
            if not side.tried and not side.reason:
                side.reason = "not measured: the comparison was stopped before"

    def _run(self, rounds: int, steps: int) -> None:
        for index, side in enumerate(self.measured):
            self._progress(side.configuration.schedule, index, len(self.measured))
            ours = self.best(ERRORCAST)  # measured first
            if side.configuration.schedule != ERRORCAST and ours.reason:
                raise JobError(f"errorcast cannot run this: {ours.reason}")
            self._try(side, steps)
        ours = self.best(ERRORCAST)
        self.limits = _limits(ours.configuration.microbatches)
        peers = [self.best(name) for name in (*OWN_BACKWARD, *PEERS, ONE_PROCESS_DFA)]
        self._trial(ours, steps)
        for number in range(rounds):
            for side in (*peers, *self.limits.values()):
                self._progress(f"round {number + 1} of {rounds}", number, rounds)
                if not side.reason and not side.failed:
                    self._trial(side, steps)
                    self._trial(ours, steps)
                    if ours.failed:
                        raise TrainingFailed(f"errorcast failed in a later round: {ours.failed}")
                    self._add_ratio(side, ours)
            for cut in sorted({s.configuration.microbatches for s in (ours, *peers)}):
                measured = self._workers.costs(cut)
                self.costs.setdefault(cut, []).append(measured)
        self.link = self._workers.link()

    def predicted(self, side: Measured) -> float | None:
        """Return the predicted seconds of a side's step, or None where the simulator cannot say.

        It assumes a core (or GPU) for every worker.
        """
        measured = self.costs.get(side.configuration.microbatches)
        if measured is None or (self.link == NO_LINK and self.workers > 1):
            return None
        predictor = Predictor(self.workload, mean_costs(measured), self.link, self.workers)
        return predictor.side(side.configuration, side.shape or Shape(self.workers))

    def _try(self, side: Measured, steps: int) -> None:
        """Run a configuration for the first time, for its memory too; or note why it cannot."""
        configuration = side.configuration
        side.reason = refusal(self.workload, configuration, self.workers) or ""
        if side.reason:
            return
        try:
            if configuration.schedule in OWN:
                trial, peak = self._errorcast.first_trial(self._workers, configuration, steps + 1)
                side.bytes_per_step, side.shape = trial.bytes_per_step, trial.shape
                side.tried, spans = trial.seconds, trial.spans
            else:
                done, peak = self._workers.prepare(configuration, steps + 1)
                side.bytes_per_step = bytes_per_step(self.workload, configuration, self.workers)
                side.tried, spans = period(done), [worker.spans for worker in done]
            side.peak_memory_mb = peak
            self._keep_spans(side, spans)
        except PeerFailed as error:
            side.reason = str(error)
        finally:
            with suppress(PeerFailed):  # the workers have restarted, and remember nothing
                self._workers.forget()

    def _trial(self, side: Measured, steps: int) -> None:
        """Train a few steps; the first does not count: another side's data is in the caches."""
        configuration, first = side.configuration, len(side.rounds) * (steps + 1)
        try:
            if configuration.schedule in OWN:
                trial = self._errorcast.trial(self._workers, configuration, steps + 1)
                side.rounds.append(trial.seconds)
                self._keep_spans(side, trial.spans)
                return
            done = self._workers.train(configuration, first, first + steps + 1)
        except PeerFailed as error:
            side.failed = str(error)
            return
        side.rounds.append(period(done))
        self._keep_spans(side, [worker.spans for worker in done])

    def _add_ratio(self, side: Measured, ours: Measured) -> None:
        if not side.failed:
            before, after = (median(steps) for steps in ours.rounds[-2:])
            side.ratios.append(median(side.rounds[-1]) / ((before + after) / 2))

    def _keep_spans(self, side: Measured, spans: list[list[Span]]) -> None:
        if side.configuration.schedule in (*OWN, *PIPELINES):
            side.bubbles.append(bubble(spans))
            self.spans[side.configuration] = spans

    def best(self, schedule: str) -> Measured:
        """Return a side at its best microbatches and stages, or one with a reason why not."""
        sides = [side for side in self.measured if side.configuration.schedule == schedule]
        ran = [side for side in sides if side.tried and not side.reason]
        return min(ran, key=lambda side: min(side.tried), default=sides[0])

    def best_pipeline(self) -> Measured | None:
        """Return the fastest of all pipelines at their best, or None if none could run."""
        sides = [self.best(name) for name in PIPELINES]
        ran = [side for side in sides if side.ratios and not side.reason]
        return min(ran, key=lambda side: median(side.ratios), default=None)


def _limits(microbatches: int) -> dict[str, Measured]:
    names = (LIMIT_DFA, LIMIT_DFA_LOADED, LIMIT_BP)
    return {name: Measured(Configuration(name, microbatches)) for name in names}


def period(done: Sequence[Trained]) -> list[float]:
    """Return the seconds of each step but the first: workers in step share one period."""
    each = zip(*(worker.seconds[1:] for worker in done), strict=True)
    return [sum(seconds) / len(done) for seconds in each]
