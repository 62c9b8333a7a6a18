"""Time to a test score: errorcast and the best pipeline are both trained until they reach it.

Seconds count training alone; neither side's include the evaluations between the epochs.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial

from coordinator.experiments.contender import Contender
from coordinator.experiments.race import Race, Raced
from coordinator.experiments.runner import Runner
from coordinator.job.resolve import Job
from dfa_core import ModelProfile
from dfa_speedup.bench_workers import PeerFailed, WorkersLost


def run_race(
    race: Race,
    job: Job,
    peer: Job,
    profile: ModelProfile,
    keep: Callable[[], None],
    stop_if_asked: Callable[[], None],
) -> None:
    """Train the sides that have not finished until the score is reached or their epochs are over.

    keep: called after each epoch. stop_if_asked: called again and again in each wait. Ray must be
    there. A side that fails says why, and the other one runs; where that has cost the workers, it
    starts again once.
    """
    for side, of_side in zip(race.sides, (job, peer), strict=True):
        if side.finished:
            continue
        contender = Contender.of(of_side, profile, race.score, race.bound)
        train = partial(_train, side, contender, keep, stop_if_asked)
        try:
            try:
                train()
            except WorkersLost:
                train()
        except PeerFailed as error:
            side.failed = str(error)
        keep()


def _train(
    side: Raced,
    contender: Contender,
    keep: Callable[[], None],
    stop_if_asked: Callable[[], None],
) -> None:
    side.epochs, side.failed = [], ""
    with (
        Runner(contender, stop_if_asked) as runner,
        closing(runner.stretches(side.configuration)) as epochs,
    ):
        for epoch in epochs:
            side.epochs.append(epoch)
            side.reached = contender.criterion.reached(epoch[1])
            keep()
            if side.reached:
                break
    side.finished = True
