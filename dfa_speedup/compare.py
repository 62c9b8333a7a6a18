"""The comparison: every side at every number of microbatches, in alternating rounds of one run.

Ratios are taken within a round and their median is reported, because a machine's speed drifts; a
side's best number of microbatches is the one of its lowest median.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from dfa_speedup.case import Case, Configuration
from dfa_speedup.costs import Costs, mean_costs
from dfa_speedup.peers import (
    DATA_PARALLEL,
    ERRORCAST,
    LIMIT_BP,
    LIMIT_DFA,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
    PEERS,
    PIPELINES,
    bytes_per_step,
    refusal,
)
from dfa_speedup.prediction import predicted_step
from dfa_speedup.spans import bubble
from dfa_speedup.worker import Trained
from dfa_speedup.workers import PeerFailed, Workers
from workers.trace import Span

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Visit:
    """Some steps: seconds of each but the first, losses, spans of each worker, bytes of all."""

    seconds: list[float]
    losses: list[float]
    spans: list[list[Span]]
    bytes_per_step: int


class Errorcast(Protocol):
    """errorcast's own side, on the same workers."""

    def visit(self, workers: Workers, microbatches: int, steps: int) -> Visit:
        """Train so many steps. Raises PeerFailed."""

    def peak_memory_mb(self, workers: Workers, microbatches: int, steps: int) -> float:
        """Train so many steps; return the largest worker's peak, as Workers does for peers."""


@dataclass
class Measured:
    """One configuration: a list of step seconds for each round; why it could not run, if so."""

    configuration: Configuration
    rounds: list[list[float]] = field(default_factory=list)
    bubbles: list[float] = field(default_factory=list)
    peak_memory_mb: float = 0.0
    bytes_per_step: int = 0
    reason: str = ""

    @property
    def seconds(self) -> list[float]:
        """Return the seconds of all steps."""
        return [s for steps in self.rounds for s in steps]

    def median(self, index: int) -> float:
        """Return the median step of one round, seconds."""
        return median(self.rounds[index])


class Comparison:
    """Measures all sides of a case on the same workers."""

    def __init__(
        self,
        case: Case,
        workers: Workers,
        errorcast: Errorcast,
        microbatches: Sequence[int],
        progress: Progress,
    ) -> None:
        self._case, self._workers, self._errorcast = case, workers, errorcast
        self._progress, self._asked = progress, microbatches
        self.blocks = len(workers.all)
        self.measured = [
            Measured(Configuration(schedule, m))
            for schedule in (ERRORCAST, *PEERS, ONE_PROCESS_DFA, LIMIT_DFA, LIMIT_BP)
            for m in self._microbatches_of(schedule, microbatches)
        ]
        self.loaded: list[list[float]] = []
        self.costs: dict[int, list[Costs]] = {}
        self.spans: dict[Configuration, list[list[Span]]] = {}

    def _microbatches_of(self, schedule: str, asked: Sequence[int]) -> Sequence[int]:
        # these need no microbatches: they are slower with more, unless memory is short
        uncut = schedule in (DATA_PARALLEL, ONE_PROCESS, ONE_PROCESS_DFA)
        return sorted({1, min(asked)}) if uncut else asked

    def run(self, rounds: int, steps: int) -> None:
        """Measure the memory of each configuration, all of them in rounds, and what layers cost."""
        for index, side in enumerate(self.measured):
            self._progress(str(side.configuration.schedule), index, len(self.measured))
            self._first(side)
        for number in range(rounds):
            for side in self._running():
                self._progress(f"round {number + 1}/{rounds}", number, rounds)
                self._round(side, steps)
            self._round_of_the_loaded_limit(steps)
            for m in self._asked:
                self.costs.setdefault(m, []).append(self._workers.costs(m))
        self.link = self._workers.link()

    def predicted(self, configuration: Configuration) -> float | None:
        """Return the predicted seconds of a step, where the simulator knows the side.

        It takes a core (or GPU) for every worker for granted.
        """
        nearest = max(configuration.microbatches, min(self._asked))
        costs = mean_costs(self.costs[nearest])
        return predicted_step(self._case, costs, configuration, self.blocks, self.link)

    def _running(self) -> Iterator[Measured]:
        return (side for side in self.measured if not side.reason)

    def _first(self, side: Measured) -> None:
        """Run a configuration for its memory; or note why it cannot run."""
        m = side.configuration.microbatches
        side.reason = refusal(self._case, side.configuration, self.blocks) or ""
        if side.reason:
            return
        try:
            if side.configuration.schedule == ERRORCAST:
                side.peak_memory_mb = self._errorcast.peak_memory_mb(self._workers, m, 2)
            else:
                side.peak_memory_mb = self._workers.peak_memory_mb(side.configuration, 2)
                side.bytes_per_step = bytes_per_step(self._case, side.configuration, self.blocks)
        except PeerFailed as error:
            side.reason = str(error)
        finally:
            self._workers.forget()

    def _round(self, side: Measured, steps: int) -> None:
        """Train a few steps; the first is left out: it finds another side's data in the caches."""
        configuration = side.configuration
        try:
            if configuration.schedule == ERRORCAST:
                visit = self._errorcast.visit(self._workers, configuration.microbatches, steps + 1)
                side.bytes_per_step = visit.bytes_per_step
                seconds, spans = visit.seconds, visit.spans
            else:
                first = len(side.rounds) * (steps + 1)
                done = self._workers.train(configuration, first, first + steps + 1)
                seconds, spans = period(done), [worker.spans for worker in done]
        except PeerFailed as error:
            side.reason = str(error)
            return
        side.rounds.append(seconds)
        if configuration.schedule in (ERRORCAST, *PIPELINES):
            side.bubbles.append(bubble(spans))
            self.spans[configuration] = spans

    def _round_of_the_loaded_limit(self, steps: int) -> None:
        configuration = Configuration(LIMIT_DFA, self.best(ERRORCAST).configuration.microbatches)
        done = self._workers.train_on_each(configuration, 0, steps + 1)
        self.loaded.append([max(s) for s in zip(*(d.seconds[1:] for d in done), strict=True)])

    def best(self, schedule: str) -> Measured:
        """Return a side at its own best number of microbatches (or one that says why not)."""
        sides = [side for side in self.measured if side.configuration.schedule == schedule]
        ran = [side for side in sides if side.rounds and not side.reason]
        return min(ran, key=lambda side: median(side.seconds), default=sides[0])


def period(done: Sequence[Trained]) -> list[float]:
    """Return the seconds of each step but the first: in step, all workers' periods are one."""
    each = zip(*(worker.seconds[1:] for worker in done), strict=True)
    return [sum(seconds) / len(done) for seconds in each]
