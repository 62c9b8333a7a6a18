"""Trains one entrant of a target, seed by seed, until it reaches the hardest bound."""

from collections.abc import Callable, Mapping
from contextlib import closing
from math import isnan
from typing import Any

from coordinator.experiments.contender import Contender
from coordinator.experiments.leaderboard.result import Evaluated, Result, SeedRun, Tried
from coordinator.experiments.leaderboard.targets import Entrant, Target
from coordinator.experiments.runner import Runner
from coordinator.planning.workload import timing_workload
from dfa_core import JobError, TrainingFailed
from dfa_speedup.bench_workers import PeerFailed, WorkersLost
from dfa_speedup.peers import configurations, refusal
from dfa_speedup.workload import Configuration

_TRIED_STEPS = 6  # of a configuration; the first one does not count


class EntrantRun:
    """The runs of one entrant; its result grows as they end."""

    def __init__(
        self,
        target: Target,
        entrant: Entrant,
        given: Mapping[str, Any],
        result: Result,
        keep: Callable[[], None],
        report: Callable[[str], None],
        stop_if_asked: Callable[[], None],
    ) -> None:
        """given: settings of where it runs. keep: called whenever the result has grown.

        report: called with one line now and then. stop_if_asked: called in each wait.
        """
        self._target, self._entrant, self._given = target, entrant, given
        self._result, self._keep, self._report = result, keep, report
        self._stop_if_asked = stop_if_asked

    def run(self) -> None:
        """Run the seeds that are not over; where one fails, note why, and run no more.

        A seed whose workers die runs once more: it may not be to blame.
        """
        for seed in range(len(self._result.runs), self._target.seeds):
            try:
                try:
                    done = self._seed(seed)
                except WorkersLost:
                    done = self._seed(seed)
            except (JobError, TrainingFailed) as error:
                self._result.failed = " ".join(str(error).split())
                self._keep()
                return
            self._result.runs.append(done)
            self._keep()

    def _seed(self, seed: int) -> SeedRun:
        target = self._target
        job = target.job(self._entrant, seed, self._given)
        profile = timing_workload(job, [min(target.microbatches)]).profile
        hardest = target.bounds[-1]
        contender = Contender.of(job, profile, target.score, hardest, target.every)
        with Runner(contender, self._stop_if_asked) as runner:
            if self._result.configuration is None:
                self._choose(runner)
            configuration = self._result.configuration
            if configuration is None:
                reasons = dict.fromkeys(tried.reason for tried in self._result.tried)
                raise PeerFailed(f"nothing that was tried can run: {'; '.join(reasons)}")
            return self._train(runner, configuration, seed)

    def _train(self, runner: Runner, configuration: Configuration, seed: int) -> SeedRun:
        target, run, seconds = self._target, SeedRun(seed), 0.0
        criterion = runner.contender.criterion
        steps = (last for _, last in criterion.stretches())
        with closing(runner.stretches(configuration)) as stretches:
            for last, (more, scores) in zip(steps, stretches, strict=False):
                seconds += more
                kept = {name: None if isnan(value) else value for name, value in scores.items()}
                run.evaluations.append(Evaluated(last, round(seconds, 3), kept))
                self._report(
                    f"{self._result.target}, {self._entrant.name}, seed {seed}: step {last} of "
                    f"{criterion.steps}, {seconds:.1f} s, {target.score} {scores[target.score]:.4f}"
                )
                if criterion.reached(scores):
                    break
        return run

    def _choose(self, runner: Runner) -> None:
        """Try what the entrant may run as, and continue with what has the fastest step."""
        workload, workers = runner.contender.workload, self._target.workers
        tried = []
        for schedule in self._entrant.schedules:
            cuts = sorted(self._target.microbatches)
            for one in configurations(schedule, workload, workers, cuts):
                self._report(f"{self._result.target}, {self._entrant.name}: trying {one.label}")
                reason = refusal(workload, one, workers) or runner.workers.refusal(one) or ""
                tried.append(_tried(runner, one) if not reason else Tried(one, None, reason))
        ran = [one for one in tried if one.step_ms is not None]
        best = min(ran, key=lambda one: one.step_ms or 0.0, default=None)
        self._result.tried = tried
        self._result.configuration = best.configuration if best else None


def _tried(runner: Runner, configuration: Configuration) -> Tried:
    try:
        seconds = runner.trial(configuration, _TRIED_STEPS)
    except WorkersLost:
        raise
    except PeerFailed as error:
        return Tried(configuration, None, " ".join(str(error).split()))
    return Tried(configuration, round(1e3 * min(seconds), 3))
