"""The states of a job and the transitions between them."""

from typing import TypeAlias

from errorcast.v1.job_pb2 import (
    JOB_STATE_CANCELLED,
    JOB_STATE_FAILED,
    JOB_STATE_PAUSED,
    JOB_STATE_QUEUED,
    JOB_STATE_RUNNING,
    JOB_STATE_STARTING,
    JOB_STATE_SUCCEEDED,
    JobState,
)

State: TypeAlias = JobState.ValueType

QUEUED, STARTING, RUNNING = JOB_STATE_QUEUED, JOB_STATE_STARTING, JOB_STATE_RUNNING
PAUSED, SUCCEEDED = JOB_STATE_PAUSED, JOB_STATE_SUCCEEDED
FAILED, CANCELLED = JOB_STATE_FAILED, JOB_STATE_CANCELLED

FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
ACTIVE = frozenset({STARTING, RUNNING})  # the job has, or may have, a training actor

LEGAL: dict[State, frozenset[State]] = {
    QUEUED: frozenset({STARTING, PAUSED, CANCELLED}),
    STARTING: frozenset({RUNNING, QUEUED, PAUSED, FAILED, CANCELLED}),
    RUNNING: frozenset({QUEUED, PAUSED, SUCCEEDED, FAILED, CANCELLED}),
    PAUSED: frozenset({QUEUED, CANCELLED}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}


class IllegalTransition(Exception):
    """A transition that LEGAL does not list: a bug of the service."""


def check(before: State, after: State) -> None:
    """Raise IllegalTransition unless LEGAL lists the transition."""
    if after not in LEGAL[before]:
        raise IllegalTransition(f"{name(before)} -> {name(after)}")


def name(state: State) -> str:
    """Return the name of a state for people: RUNNING."""
    return JobState.Name(state).removeprefix("JOB_STATE_")
