"""How long a job still needs: the steps that are left, at the pace of the last minute's clock."""

import pytest
from errorcast.v1.job_pb2 import Job, JobState, Progress

from coordinator.service.jobs.pace import Pace
from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import PAUSED, RUNNING
from coordinator.service.web.job_json import seconds_left


def followed(*reports: tuple[float, int]) -> Pace:
    pace = Pace()
    for now, step in reports:
        pace = pace.after(step, now)
    return pace


def test_the_pace_is_that_of_the_last_minute() -> None:
    """Ten steps a second for two minutes, then one: also what lies between steps counts."""
    quick = [(0.2 * i, 2 * i) for i in range(600)]
    slow = [(120.0 + i, 1200 + i) for i in range(121)]
    assert followed(*quick).step_seconds(1198, 119.8) == pytest.approx(0.1, rel=0.02)
    pace = followed(*quick, *slow)
    assert len(pace.samples) <= 62
    assert pace.step_seconds(1320, 240.0) == pytest.approx(1.0)


def test_slow_steps_are_still_known() -> None:
    pace = followed(*((300.0 * i, i) for i in range(10)))
    assert pace.step_seconds(9, 2700.0) == pytest.approx(300.0)


def test_a_stall_makes_the_pace_slower() -> None:
    pace = followed((0.0, 0), (10.0, 100))
    assert pace.step_seconds(100, 10.0) == pytest.approx(0.1)
    assert pace.step_seconds(100, 40.0) == pytest.approx(0.4)


def test_a_rollback_begins_anew() -> None:
    pace = followed((0.0, 0), (10.0, 100), (11.0, 50))
    assert pace.samples == ((11.0, 50),)
    assert pace.step_seconds(50, 11.0) is None
    assert pace.after(60, 13.0).step_seconds(60, 13.0) == pytest.approx(0.2)


def record(state: JobState.ValueType, pace: Pace) -> Record:
    progress = Progress(step=100, total_steps=500, step_seconds=0.05)
    return Record(1, "request-1", b"", Job(state=state, progress=progress), pace=pace)


def test_the_time_left_is_known_for_jobs_that_run() -> None:
    pace = followed((0.0, 0), (10.0, 100))
    assert seconds_left(record(RUNNING, pace), 10.0) == pytest.approx(40.0)
    assert seconds_left(record(PAUSED, pace), 10.0) is None
    first = followed((10.0, 100))
    assert seconds_left(record(RUNNING, first), 10.1) == pytest.approx(20.0)  # by the median step
    assert seconds_left(record(RUNNING, Pace()), 10.0) is None  # not heard of since the start
