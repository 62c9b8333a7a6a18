"""The child process that finds the fastest shape of a number of workers: it measures layers."""

import sys
from typing import Any

from coordinator.service.processes.frames import Frame, Header, answer_one_by_one


def plan(header: Header, body: bytes) -> Frame:
    """Return the fastest blocks, replicas and heads of these workers, and the head's place.

    Raises JobError where there is no such shape.
    """
    from errorcast.v1.job_pb2 import JobSpec  # noqa: PLC0415

    from coordinator.job.spec import only_given, parse  # noqa: PLC0415
    from coordinator.planning.for_workers import fastest_at, settings_of  # noqa: PLC0415

    sys.path.extend(header["folders"])
    settings: dict[str, Any] = only_given(JobSpec.FromString(body))
    found = fastest_at(header["workers"], settings.pop("task"), settings)
    shape = settings_of(found) | {"replicas": found.shape.replicas}
    return {}, parse(shape).SerializeToString()


def main() -> None:
    """Plan jobs until the service ends, or ends this process."""
    answer_one_by_one(plan)
