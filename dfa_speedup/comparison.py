"""The comparison: every side runs on the same workers, each peer between two trials of errorcast.

First every side runs at every number of microbatches, and of stages a worker; its best is what has
its fastest step, because other work on the machine can only make a step slower. Then the bests run
in rounds: each peer has a trial between two trials of errorcast, and its step is divided by the
mean of theirs, because a machine's speed drifts from minute to minute. The median of those ratios
is reported.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Protocol, TypeVar

from dfa_core import JobError, TrainingFailed
from dfa_speedup.bench_worker import Trained
from dfa_speedup.bench_workers import BenchWorkers, PeerFailed, WorkersLost
from dfa_speedup.measured import LIMITS, Measured, Measurements
from dfa_speedup.peers import (
    COMPILED_PEERS,
    ERRORCAST,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
    OWN,
    OWN_SIDES,
    PEERS,
    PIPELINES,
    bytes_per_step,
    configurations,
    refusal,
)
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.spans import bubble
from dfa_speedup.workload import Configuration, Workload
from workers.trace import Span

Progress = Callable[[str, int, int], None]
T = TypeVar("T")


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


class Comparison:
    """Measures those sides of a workload that are not measured yet, all on the same workers.

    A side whose workers die runs once more on new ones: the side may not be to blame.
    """

    def __init__(
        self,
        workload: Workload,
        workers: BenchWorkers,
        errorcast: Errorcast,
        found: Measurements,
        progress: Progress,
        keep: Callable[[], None],
    ) -> None:
        """found: of to_measure(); what is measured is added. keep: called whenever it is."""
        self.workload, self._workers, self._errorcast = workload, workers, errorcast
        self.found, self._progress, self._keep = found, progress, keep

    def run(self, rounds: int, steps: int) -> None:
        """Try all configurations, then measure each side's best and the layers' costs in rounds.

        Raises JobError when errorcast itself cannot run, and TrainingFailed when it fails later.
        """
        for index, side in enumerate(self.found.sides):
            self._progress(side.configuration.schedule, index, len(self.found.sides))
            ours = self.found.ours()  # measured first
            if side.configuration.schedule != ERRORCAST and ours.reason:
                raise JobError(f"errorcast cannot run this: {ours.reason}")
            if not side.tried:
                self._try(side, steps)
                self._keep()
        self._rounds(rounds, steps)
        if self.found.link is None and self.found.workers > 1:
            self.found.link = _once_more(self._workers.link)
        if not self.found.flops and self.found.best(ONE_PROCESS).tried:  # a process holds it all
            self.found.flops = _once_more(self._workers.flops)

    def _rounds(self, rounds: int, steps: int) -> None:
        found, ours = self.found, self.found.ours()
        m = ours.configuration.microbatches
        if [limit.configuration.microbatches for limit in found.limits] != [m] * len(LIMITS):
            found.limits = [Measured(Configuration(name, m)) for name in LIMITS]
        peers = [found.best(name) for name in found.schedules() if name != ERRORCAST]
        for side in (ours, *peers, *found.limits):
            side.failed = ""  # in an earlier comparison, which this one continues
        if any(len(side.ratios) < rounds and not side.reason for side in (*peers, *found.limits)):
            self._trial_of_ours(ours, steps)
        for number in range(rounds):
            for side in (*peers, *found.limits):
                self._progress(f"round {number + 1} of {rounds}", number, rounds)
                if len(side.ratios) <= number and not side.reason and not side.failed:
                    self._trial(side, steps)
                    self._trial_of_ours(ours, steps)
                    self._add_ratio(side, ours)
                    self._keep()
            for cut in sorted({s.configuration.microbatches for s in (ours, *peers)}):
                if len(found.costs.setdefault(cut, [])) <= number:
                    found.costs[cut].append(_once_more(partial(self._workers.costs, cut)))
                    self._keep()

    def _try(self, side: Measured, steps: int) -> None:
        """Run a configuration for the first time, for its memory too; or note why it cannot."""
        refused = refusal(self.workload, side.configuration, self.found.workers)
        side.reason = refused or self._workers.refusal(side.configuration) or ""
        if side.reason:
            return
        try:
            _once_more(lambda: self._first_trial(side, steps))
        except PeerFailed as error:
            side.reason = str(error)
        finally:
            with suppress(PeerFailed):  # the workers have restarted, and remember nothing
                self._workers.forget()

    def _first_trial(self, side: Measured, steps: int) -> None:
        configuration = side.configuration
        if configuration.schedule in OWN_SIDES:
            trial, peak = self._errorcast.first_trial(self._workers, configuration, steps + 1)
            side.bytes_per_step, side.shape = trial.bytes_per_step, trial.shape
            side.tried, spans = trial.seconds, trial.spans
        else:
            done, peak = self._workers.prepare(configuration, steps + 1)
            side.bytes_per_step = bytes_per_step(self.workload, configuration, self.found.workers)
            side.tried, spans = period(done), [worker.spans for worker in done]
        side.peak_memory_mb = peak
        _keep_spans(side, spans)

    def _trial_of_ours(self, ours: Measured, steps: int) -> None:
        self._trial(ours, steps)
        if ours.failed:
            raise TrainingFailed(f"errorcast failed in a later round: {ours.failed}")

    def _trial(self, side: Measured, steps: int) -> None:
        """Train a few steps, or note why it fails."""
        try:
            _once_more(lambda: self._later_trial(side, steps))
        except PeerFailed as error:
            side.failed = str(error)

    def _later_trial(self, side: Measured, steps: int) -> None:
        """Train a few steps; the first does not count: another side's data is in the caches."""
        configuration, first = side.configuration, len(side.rounds) * (steps + 1)
        if configuration.schedule in OWN_SIDES:
            trial = self._errorcast.trial(self._workers, configuration, steps + 1)
            seconds, spans = trial.seconds, trial.spans
        else:
            done = self._workers.train(configuration, first, first + steps + 1)
            seconds, spans = period(done), [worker.spans for worker in done]
        side.rounds.append(seconds)
        _keep_spans(side, spans)

    def _add_ratio(self, side: Measured, ours: Measured) -> None:
        if not side.failed:
            before, after = (median(steps) for steps in ours.rounds[-2:])
            side.ratios.append(median(side.rounds[-1]) / ((before + after) / 2))


def _once_more(run: Callable[[], T]) -> T:
    """Run; where that has cost the workers, run once more on new ones."""
    try:
        return run()
    except WorkersLost:
        return run()


def _keep_spans(side: Measured, spans: list[list[Span]]) -> None:
    if side.configuration.schedule in (*OWN_SIDES, *PIPELINES) and all(spans):
        side.bubbles.append(bubble(spans))
        side.spans = spans


def to_measure(
    workload: Workload,
    workers: int,
    microbatches: Sequence[int],
    compiled: bool = False,
    earlier: Measurements | None = None,
) -> Measurements:
    """Return all sides of a comparison, with what an earlier one has measured.

    Sides that only the earlier one had stay. compiled: also peers whose layers torch.compile has
    compiled.
    """
    peers = (*PEERS, *COMPILED_PEERS) if compiled else PEERS
    sides = [
        configuration
        for schedule in (*OWN, *peers, ONE_PROCESS_DFA)
        for configuration in configurations(schedule, workload, workers, microbatches)
    ]
    if earlier is None:
        return Measurements(workers, [Measured(side) for side in sides])
    others = [side for side in earlier.sides if side.tried and side.configuration not in sides]
    return replace(earlier, sides=[*(earlier.side(side) for side in sides), *others])


def period(done: Sequence[Trained]) -> list[float]:
    """Return the seconds of each step but the first: workers in step share one period."""
    each = zip(*(worker.seconds[1:] for worker in done), strict=True)
    return [sum(seconds) / len(done) for seconds in each]
