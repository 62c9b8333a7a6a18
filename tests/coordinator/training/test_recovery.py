"""The state machine of recovery, by itself: any order of steps and faults."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.training.recovery import Recovery, State
from dfa_core import TrainingFailed

LIMIT = 4
FAULT = TrainingFailed("the worker of block 1 died")


class AnyRun(RuleBasedStateMachine):
    """Steps are done, repeated and lost in any order; a model beside it says what must be so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.recovery = Recovery(LIMIT, clock=lambda: self.now)
        self.recovery.begins(0)
        self.at = self.went_on = self.furthest = self.tries = self.faults = 0
        self.since: float | None = None
        self.lost = 0.0
        self.repeated = 0

    @precondition(lambda self: self.recovery.state is not State.FAILED)
    @rule(seconds=st.floats(0, 10))
    def a_step_is_done(self, seconds: float) -> None:
        self.now += seconds
        self.at += 1
        recovered = self.recovery.done(self.at)
        assert (recovered is None) == (self.since is None)
        if recovered is not None and self.since is not None:
            assert recovered.seconds == pytest.approx(self.now - self.since)
            assert (recovered.step, recovered.repeated) == (
                self.went_on,
                self.furthest - self.went_on,
            )
            self.lost += self.now - self.since
            self.since = None
        if self.at > self.furthest:
            self.furthest, self.tries = self.at, 0

    @precondition(lambda self: self.recovery.state is not State.FAILED)
    @rule(back=st.integers(0, 30), seconds=st.floats(0, 10))
    def a_part_is_lost(self, back: int, seconds: float) -> None:
        self.now += seconds
        self.since = self.now if self.since is None else self.since
        self.tries += 1
        self.faults += 1
        if self.tries > LIMIT:
            with pytest.raises(TrainingFailed, match="block 1 died; gave up after 4 recoveries"):
                self.recovery.fault(FAULT)
            assert self.recovery.state is State.FAILED
            return
        assert self.recovery.fault(FAULT) == (0, 1, 2, 4)[self.tries - 1]
        back = min(back, self.at)
        assert self.recovery.goes_on_from(self.at - back) == back
        self.at -= back
        self.went_on = self.at
        self.repeated += back

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_state_says_whether_new_steps_are_done(self) -> None:
        if self.recovery.state is State.FAILED:
            assert self.tries == LIMIT + 1
        else:
            assert self.recovery.state is (State.RECOVERING if self.tries else State.RUNNING)
        assert self.recovery.faults == self.faults
        assert self.recovery.furthest == self.furthest
        assert self.recovery.steps_repeated == self.repeated
        assert self.recovery.seconds_lost == pytest.approx(self.lost)


TestAnyRun = AnyRun.TestCase


def test_the_wait_grows_to_half_a_minute() -> None:
    recovery = Recovery(limit=9)
    assert [recovery.fault(FAULT) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_without_recoveries_the_first_fault_is_the_end() -> None:
    with pytest.raises(TrainingFailed, match=r"^the worker of block 1 died$"):
        Recovery(limit=0).fault(FAULT)


def test_a_repeatedly_non_finite_step_ends_the_run_though_other_steps_succeed() -> None:
    recovery = Recovery(limit=2)
    non_finite = TrainingFailed("the loss is nan")
    for _ in range(2):
        recovery.non_finite(7, non_finite)
        recovery.begins(4)
        recovery.done(5)
    recovery.non_finite(9, non_finite)  # further than before
    recovery.non_finite(8, non_finite)
    with pytest.raises(
        TrainingFailed, match="the loss is nan; gave up after 2 roll-backs in a row"
    ):
        recovery.non_finite(9, non_finite)
