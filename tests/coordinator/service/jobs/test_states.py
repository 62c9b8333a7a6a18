"""A job goes only where it may, whatever is asked of it in whatever order."""

import pytest
from errorcast.v1.job_pb2 import Job, JobState
from hypothesis import given
from hypothesis import strategies as st

from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import ACTIVE, FINAL, LEGAL, QUEUED, IllegalTransition, name

STATES = [number for number in JobState.values() if number]


def record() -> Record:
    return Record(1, "request", b"", Job(id="job-0001", state=QUEUED))


@given(st.lists(st.sampled_from(STATES), max_size=12))
def test_only_legal_steps_are_taken(wanted: list[int]) -> None:
    job = record()
    for state in wanted:
        before = job.job.state
        if state in LEGAL[before]:
            event = job.go_to(state, "because")
            assert (event.state.state, event.state.reason) == (state, "because")
            assert job.job.state == state
            assert job.job.HasField("ended") == (state in FINAL)
        else:
            with pytest.raises(IllegalTransition):
                job.go_to(state, "because")
            assert job.job.state == before


def test_every_state_can_be_left_or_is_final() -> None:
    assert set(LEGAL) == set(STATES)
    for state in STATES:
        assert (state in FINAL) == (not LEGAL[state]), name(state)
        assert state not in ACTIVE or LEGAL[state] >= FINAL - {
            JobState.Value("JOB_STATE_SUCCEEDED")
        }
    reached, new = {QUEUED}, {QUEUED}
    while new:
        new = {after for before in new for after in LEGAL[before]} - reached
        reached |= new
    assert reached == set(STATES)
