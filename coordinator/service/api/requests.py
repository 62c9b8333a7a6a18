"""Checks the fields of requests, and cuts long answers into pages and messages."""

import re
from collections.abc import AsyncIterator, Iterable

from errorcast.v1 import service_pb2 as pb
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import HEAD_PLACE_AUTO, JobSpec, JobState

from coordinator.service.errors import BAD_JOB, BAD_REQUEST, TOO_MUCH, ServiceError
from coordinator.service.jobs.record import Record, replicas_of, workers_of
from coordinator.service.settings import Limits
from coordinator.service.users import User

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PRIORITIES = range(-100, 101)
_PAGE, _LARGEST_PAGE = 50, 200
_MESSAGE_BYTES = 1 << 20


def check_submission(request: pb.SubmitJobRequest, limits: Limits) -> None:
    """Raise ServiceError for a submission with an invalid field."""
    if not _REQUEST_ID.fullmatch(request.request_id):
        raise ServiceError(BAD_REQUEST, "request_id: must be 8 to 64 of A-Z a-z 0-9 _ -")
    if request.priority not in _PRIORITIES:
        raise ServiceError(BAD_REQUEST, f"priority: {request.priority} is not between -100 and 100")
    if request.spec.ByteSize() > limits.spec_bytes:
        raise ServiceError(TOO_MUCH, f"spec: is larger than {limits.spec_bytes:,} bytes")
    if not request.spec.task:
        raise ServiceError(BAD_JOB, "task: is missing")
    workers = workers_of(request.spec)
    if workers > limits.blocks:
        raise ServiceError(
            BAD_JOB,
            f"blocks: {workers} is above {limits.blocks}, the limit for the blocks and heads of "
            f"all replicas together",
        )
    asked = request.spec.resources
    readers = asked.data_workers
    if asked.sharded_reading:
        readers *= max(1, request.spec.replicas)
    if readers > limits.data_workers:
        raise ServiceError(
            BAD_JOB,
            f"resources.data_workers: {readers} is above {limits.data_workers}"
            + (", in all replicas together" if asked.sharded_reading else ""),
        )


def check_workers(workers: int, user: User) -> None:
    """Raise ServiceError for more workers than a user may ever have."""
    if user.workers is not None and workers > user.workers:
        raise ServiceError(
            TOO_MUCH,
            f"blocks: {workers} workers are above {user.workers}, the limit of {user.name}",
        )


def as_submitted(checked: JobSpec, submitted: JobSpec) -> JobSpec:
    """Return a checked spec in which uploaded code has its name again, not its place here."""
    if submitted.code:
        checked.code, checked.task, checked.working_dir = submitted.code, submitted.task, ""
    return checked


def wanted_shape(request: pb.ScaleJobRequest, coming: JobSpec, limits: Limits) -> JobSpec:
    """Return the blocks, replicas and heads that a job is to have, and where the head is then.

    The spec that is returned is not complete; it is empty where the service is to choose the shape.

    coming: the job's spec after the scaling before this one.

    Raises ServiceError for numbers that exceed the limit, and for workers and one of the others.
    """
    if request.workers and (request.blocks or request.replicas or request.HasField("heads")):
        raise ServiceError(
            BAD_REQUEST,
            "workers: blocks, replicas and heads follow from it; give either it or them",
        )
    if request.workers > limits.blocks:
        raise ServiceError(BAD_REQUEST, f"workers: {request.workers} is above {limits.blocks}")
    if request.workers:
        return JobSpec()
    if not (request.blocks or request.replicas or request.HasField("heads")):
        raise ServiceError(BAD_REQUEST, "blocks: give blocks, replicas, heads or workers")
    heads = request.heads if request.HasField("heads") else coming.heads
    blocks, replicas = request.blocks or coming.blocks, request.replicas or replicas_of(coming)
    shape = JobSpec(blocks=blocks, replicas=replicas, heads=heads)
    if heads:
        shape.resources.head = HEAD_PLACE_AUTO  # it has workers of its own
    if workers_of(shape) > limits.blocks:
        words = " and heads" if heads else ""
        raise ServiceError(
            BAD_REQUEST,
            f"blocks: there must be 1 to {limits.blocks}{words} in all replicas together",
        )
    return shape


async def whole_inputs(
    requests: AsyncIterator[pb.PredictRequest], limits: Limits
) -> AsyncIterator[pb.PredictRequest]:
    """Yield the requests; one whose input continues over several is joined to one.

    Raises ServiceError for an input that is too large, or that is not continued as it says.
    """
    begun: pb.PredictRequest | None = None
    parts: list[bytes] = []
    async for request in requests:
        if begun is None:
            begun, parts = request, []
        elif request.job_id or request.input.shape:
            raise ServiceError(BAD_REQUEST, "input: another one begins before this one is complete")
        parts.append(request.input.data)
        if sum(map(len, parts)) > limits.input_bytes:
            raise ServiceError(TOO_MUCH, f"input: is larger than {limits.input_bytes:,} bytes")
        if not request.continued:
            begun.input.data = b"".join(parts)
            yield begun
            begun = None
    if begun is not None:
        raise ServiceError(BAD_REQUEST, "input: the last one is not complete")


def page_of(request: pb.ListJobsRequest, jobs: Iterable[Record]) -> pb.ListJobsResponse:
    """Return the requested page of the jobs, which come newest first. Raises ServiceError."""
    size = request.page_size or _PAGE
    if size > _LARGEST_PAGE:
        raise ServiceError(BAD_REQUEST, f"page_size: {size} is above {_LARGEST_PAGE}")
    below = _upper_bound(request.page_token)
    unknown = [s for s in request.states if s not in JobState.values() or s == 0]
    if unknown:
        raise ServiceError(BAD_REQUEST, f"states: {unknown[0]} is not a state of a job")
    found = [
        record
        for record in jobs
        if (below is None or record.number < below)
        and (not request.states or record.job.state in request.states)
    ]
    more = str(found[size - 1].number) if len(found) > size else ""
    return pb.ListJobsResponse(jobs=[r.job for r in found[:size]], next_page_token=more)


def _upper_bound(token: str) -> int | None:
    """Return the number that all jobs of a page are below; None for the first page."""
    if not token:
        return None
    if not token.isascii() or not token.isdecimal() or len(token) > 18:
        raise ServiceError(BAD_REQUEST, "page_token: must come from the previous response")
    return int(token)


def fitting_events(events: list[Event]) -> list[Event]:
    """Return the first events, as many as fit a message of about 1 MiB, but at least one."""
    size = 0
    for count, event in enumerate(events):
        size += event.ByteSize()
        if size > _MESSAGE_BYTES and count:
            return events[:count]
    return events


def id_stem(task: str) -> str:
    """Return how a job's id begins: the task's or its function's name, in a-z 0-9 and -."""
    last = task.rpartition(":")[2] or task
    return re.sub(r"[^a-z0-9-]+", "-", last.lower()).strip("-")[:40] or "job"
