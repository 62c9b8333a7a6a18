"""A job as the service keeps it, with the fields that clients do not see."""

import copy
from dataclasses import dataclass, field
from typing import Literal

from errorcast.v1.event_pb2 import Event, StateChange
from errorcast.v1.job_pb2 import Job, JobSpec

from coordinator.service.jobs.pace import Pace
from coordinator.service.jobs.states import FINAL, State, check

Wanted = Literal["run", "pause", "cancel"]


@dataclass
class Record:
    """A job and where the service is with it.

    request: the spec as it was submitted, serialized.
    wanted: what the client asked for last; it is done at the next segment boundary.
    scaling: the shape that the job has after its next segment, serialized; empty changes nothing.
    actor: name of the training actor of the current start.
    followed: number of the actor's events that are stored.
    logged: step of the newest stored metrics.
    losses: starts in a row whose actor was lost without a new checkpoint.
    pace: how fast the current start goes; it is not stored.
    """

    number: int
    request_id: str
    request: bytes
    job: Job
    wanted: Wanted = "run"
    scaling: bytes = b""
    actor: str = ""
    followed: int = 0
    logged: int = 0
    losses: int = 0
    deleted: bool = False
    pace: Pace = field(default=Pace(), compare=False)

    def copy(self) -> "Record":
        """Return a copy to change and save."""
        return copy.deepcopy(self)

    @property
    def coming(self) -> JobSpec:
        """Return the spec that the job has once it is scaled as wanted."""
        spec = JobSpec()
        spec.CopyFrom(self.job.spec)
        spec.MergeFromString(self.scaling)
        return spec

    def go_to(self, state: State, reason: str) -> Event:
        """Change the state and return the event that reports it. Raises IllegalTransition."""
        check(self.job.state, state)
        self.job.state, self.job.reason = state, reason
        if state in FINAL:
            self.job.ended.GetCurrentTime()
        return Event(state=StateChange(state=state, reason=reason))


def workers_of(spec: JobSpec) -> int:
    """Return the number of workers: the blocks and heads of all replicas."""
    in_replica: int = spec.blocks + spec.heads
    return in_replica * replicas_of(spec)


def replicas_of(spec: JobSpec) -> int:
    """Return the number of replicas; jobs of older versions lack the field."""
    replicas: int = spec.replicas
    return max(1, replicas)
