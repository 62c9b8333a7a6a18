"""Which trials are stopped: as Ray Tune's ASHA does, but in no order of chance."""

from collections.abc import Sequence
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from coordinator.experiments.sweep.halving import Course, Halving, stops

EPOCHS = 10
HALVINGS = st.builds(Halving, st.integers(1, 12), st.integers(2, 4), st.just(EPOCHS))
SCORES = st.lists(st.integers(0, 9).map(float), min_size=EPOCHS, max_size=EPOCHS)
TRIALS = st.lists(SCORES, max_size=12)


def tunes(trials: Sequence[Sequence[float]], halving: Halving) -> list[int | None]:
    """Return after how many epochs Tune stops each trial, if one runs after the other."""
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=1000,
        grace_period=halving.grace,
        reduction_factor=halving.reduction,
    )
    found: list[int | None] = []
    for number, scores in enumerate(trials):
        trial = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, trial)
        found.append(None)
        for epoch, score in enumerate(scores[: halving.epochs - 1], start=1):
            result = {"epoch": epoch, "score": score}
            if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                found[-1] = epoch
                break
    return found


@given(TRIALS, HALVINGS)
def test_it_stops_the_trials_that_tune_stops(trials: list[list[float]], halving: Halving) -> None:
    ended = [Course(scores, ended=True) for scores in trials]
    assert stops(ended, halving) == tunes(trials, halving)


@given(TRIALS, HALVINGS, st.data())
def test_the_order_in_which_trials_run_changes_nothing(
    trials: list[list[float]], halving: Halving, data: st.DataObject
) -> None:
    last = stops([Course(scores, ended=True) for scores in trials], halving)
    known = [0] * len(trials)
    while any(n < EPOCHS for n in known):
        chosen = data.draw(st.sampled_from([i for i, n in enumerate(known) if n < EPOCHS]))
        known[chosen] = data.draw(st.integers(known[chosen] + 1, EPOCHS))
        courses = [
            Course(scores[:n], ended=n == EPOCHS) for scores, n in zip(trials, known, strict=True)
        ]
        for early, late in zip(stops(courses, halving), last, strict=True):
            assert early in (None, late)
    assert stops(courses if trials else [], halving) == last


@given(TRIALS, HALVINGS)
def test_what_was_learned_after_a_stop_does_not_count(
    trials: list[list[float]], halving: Halving
) -> None:
    found = stops([Course(scores, ended=True) for scores in trials], halving)
    cut = [
        Course(scores[:stop] if stop else scores, ended=True)
        for scores, stop in zip(trials, found, strict=True)
    ]
    assert stops(cut, halving) == found


def test_rungs_suit_jobs_of_few_epochs() -> None:
    assert Halving(1, 3, 10).rungs == [1, 3, 9]
    assert Halving(2, 3, 10).rungs == [2, 6]
    assert Halving(1, 3, 1).rungs == []
    assert Halving(10, 3, 10).rungs == []


def test_a_failed_trial_counts_as_far_as_it_came() -> None:
    courses = [Course([0.9], ended=True), Course([0.5, 0.6], ended=True)]
    assert stops(courses, Halving(1, 2, 4)) == [None, 1]
    assert stops([Course([], ended=True), courses[1]], Halving(1, 2, 4)) == [None, None]
