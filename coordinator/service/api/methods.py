"""The methods of TrainingService: checks what is asked, changes the store, tells the supervisor."""

import asyncio
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from errorcast.v1 import service_pb2 as pb
from errorcast.v1 import service_pb2_grpc
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import JobSpec, JobState

from coordinator.service.api.allowed_paths import check_allowed_paths
from coordinator.service.errors import (
    BAD_JOB,
    BAD_REQUEST,
    NO_CLUSTER,
    NO_JOB,
    STOPPING,
    TOO_MUCH,
    WRONG_STATE,
    ServiceError,
)
from coordinator.service.jobs.notifier import JobNotifier
from coordinator.service.jobs.states import ACTIVE, FINAL, PAUSED, QUEUED, RUNNING, name
from coordinator.service.jobs.store import Record, Store
from coordinator.service.jobs.supervisor import Supervisor, replicas_of, rescaled, stop_now
from coordinator.service.processes.child import ChildError
from coordinator.service.processes.cluster import ActorLost, ClusterDown, ClusterLink
from coordinator.service.processes.model_client import ModelClient
from coordinator.service.settings import ServiceSettings

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PAGE, _LARGEST_PAGE = 50, 200
_CHUNK = 1 << 20
_BATCH = 200  # events a message
_PROGRESS_S = 0.5
_PRIORITIES = range(-100, 101)

Context = grpc.aio.ServicerContext[Any, Any]


class Methods(service_pb2_grpc.TrainingServiceServicer):
    """Each method may be called twice and has one effect."""

    def __init__(
        self,
        settings: ServiceSettings,
        store: Store,
        supervisor: Supervisor,
        cluster: ClusterLink,
        models: ModelClient,
        notifier: JobNotifier,
    ) -> None:
        self._settings, self._limits = settings, settings.limits
        self._store, self._supervisor, self._cluster = store, supervisor, cluster
        self._models, self._notifier = models, notifier
        self._streams: Counter[str] = Counter()
        self.stopping = False

    async def SubmitJob(self, request: pb.SubmitJobRequest, _: Context) -> pb.SubmitJobResponse:  # noqa: N802
        """Check a job and put it into the queue."""
        self._check_submission(request)
        sent = request.spec.SerializeToString(deterministic=True)
        known = self._store.submitted_as(request.request_id, sent)
        if known is None:
            spec = JobSpec()
            spec.CopyFrom(request.spec)
            check_allowed_paths(spec, self._settings.code, self._settings.data)
            spec = await self._models.check(spec)
            # another call with the same id may have come first meanwhile
            known = self._store.submitted_as(request.request_id, sent)
            if known is None:
                stem = _stem(spec.task)
                known = self._store.add(spec, request.request_id, sent, stem, request.priority)
                self._supervisor.changed(known.job.id)
        return pb.SubmitJobResponse(job=known.job)

    async def GetJob(self, request: pb.GetJobRequest, _: Context) -> pb.GetJobResponse:  # noqa: N802
        """Return a job."""
        return pb.GetJobResponse(job=self._job(request.job_id).job)

    async def ListJobs(self, request: pb.ListJobsRequest, _: Context) -> pb.ListJobsResponse:  # noqa: N802
        """Return a page of jobs, newest first."""
        size = request.page_size or _PAGE
        if size > _LARGEST_PAGE:
            raise ServiceError(BAD_REQUEST, f"page_size: {size} is above {_LARGEST_PAGE}")
        below = _page(request.page_token)
        unknown = [s for s in request.states if s not in JobState.values() or s == 0]
        if unknown:
            raise ServiceError(BAD_REQUEST, f"states: {unknown[0]} is no state of a job")
        found = [
            record
            for record in self._store.newest_first()
            if (below is None or record.number < below)
            and (not request.states or record.job.state in request.states)
        ]
        more = str(found[size - 1].number) if len(found) > size else ""
        return pb.ListJobsResponse(jobs=[r.job for r in found[:size]], next_page_token=more)

    async def WatchJob(  # noqa: N802
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Send what has happened behind a number, and what happens."""
        record = self._job(request.job_id)
        job_id, seen = record.job.id, request.after
        with self._stream_of(context), self._notifier.listener(job_id) as news:
            shown = 0.0
            loop = asyncio.get_running_loop()
            while True:
                news.clear()
                read = self._store.events(job_id, seen, _BATCH)
                events = _of_a_message(read)
                if events:
                    yield pb.WatchJobResponse(events=events)
                    seen = events[-1].number
                if len(events) < len(read) or len(read) == _BATCH:
                    continue
                current = self._job(job_id).job
                if current.state in FINAL and seen >= current.events:
                    return
                if self.stopping:
                    raise ServiceError(STOPPING, "the service is stopping; watch again from here")
                if current.state in ACTIVE and loop.time() - shown >= _PROGRESS_S:
                    yield pb.WatchJobResponse(progress=current.progress)
                    shown = loop.time()
                await news.wait()

    async def PauseJob(self, request: pb.PauseJobRequest, _: Context) -> pb.PauseJobResponse:  # noqa: N802
        """Save and stop a job."""
        record = self._job(request.job_id)
        state = record.job.state
        if state in FINAL:
            raise _wrong_state(record, "be paused")
        if state != PAUSED and record.wanted != "pause":
            changed = record.copy()
            changed.wanted = "pause"
            events = [changed.go_to(PAUSED, "paused in the queue")] if state == QUEUED else []
            self._store.save(changed, events)
            self._supervisor.changed(record.job.id)
        return pb.PauseJobResponse(job=self._job(record.job.id).job)

    async def ResumeJob(self, request: pb.ResumeJobRequest, _: Context) -> pb.ResumeJobResponse:  # noqa: N802
        """Put a paused job back into the queue."""
        record = self._job(request.job_id)
        if record.job.state in FINAL:
            raise _wrong_state(record, "go on")
        if record.job.state == PAUSED:
            changed = record.copy()
            changed.wanted = "run"
            events = rescaled(changed)
            self._store.save(changed, [*events, changed.go_to(QUEUED, "resumed")])
        elif record.wanted == "pause":
            raise ServiceError(
                WRONG_STATE, f"{record.job.id} is being paused; resume it when it is"
            )
        self._supervisor.changed(record.job.id)
        return pb.ResumeJobResponse(job=self._job(record.job.id).job)

    async def ScaleJob(self, request: pb.ScaleJobRequest, _: Context) -> pb.ScaleJobResponse:  # noqa: N802
        """Give a job another number of blocks or replicas."""
        record = self._job(request.job_id)
        if record.job.state in FINAL:
            raise _wrong_state(record, "be scaled")
        replicas = request.replicas or record.wanted_replicas or replicas_of(record.job.spec)
        if not 1 <= request.blocks <= self._limits.blocks // replicas:
            most = self._limits.blocks
            raise ServiceError(
                BAD_REQUEST, f"blocks: there must be 1 to {most} of all replicas together"
            )
        wanted = JobSpec()
        wanted.CopyFrom(record.job.spec)
        wanted.blocks, wanted.replicas = request.blocks, replicas
        await self._models.check(wanted)
        changed = self._job(record.job.id).copy()
        now = changed.job.spec.blocks, replicas_of(changed.job.spec)
        coming = changed.wanted_blocks or now[0], changed.wanted_replicas or now[1]
        if coming != (request.blocks, replicas):
            changed.wanted_blocks, changed.wanted_replicas = request.blocks, replicas
            events = rescaled(changed) if changed.job.state not in ACTIVE else []
            self._store.save(changed, events)
            self._supervisor.changed(record.job.id)
        return pb.ScaleJobResponse(job=self._job(record.job.id).job)

    async def CancelJob(self, request: pb.CancelJobRequest, _: Context) -> pb.CancelJobResponse:  # noqa: N802
        """End a job."""
        record = self._job(request.job_id)
        changed = record.copy()
        events = stop_now(changed)
        if events:
            self._store.save(changed, events)
            self._supervisor.changed(record.job.id)
        elif name(record.job.state) != "CANCELLED":
            raise _wrong_state(record, "be cancelled")
        return pb.CancelJobResponse(job=self._job(record.job.id).job)

    async def DeleteJob(self, request: pb.DeleteJobRequest, _: Context) -> pb.DeleteJobResponse:  # noqa: N802
        """Remove a job that has ended, with its files."""
        if self._store.was_deleted(request.job_id):
            return pb.DeleteJobResponse()
        record = self._job(request.job_id)
        if record.job.state not in FINAL:
            raise _wrong_state(record, "be deleted; cancel it first")
        self._store.delete(record)
        self._notifier.ring(record.job.id)
        await asyncio.to_thread(shutil.rmtree, self._supervisor.folder(record.job.id), True)
        return pb.DeleteJobResponse()

    async def DownloadModel(  # noqa: N802
        self, request: pb.DownloadModelRequest, context: Context
    ) -> AsyncIterator[pb.DownloadModelResponse]:
        """Send the weights of the newest checkpoint."""
        record = self._job(request.job_id)
        with self._stream_of(context):
            async with self._models.exported(self._supervisor.folder(record.job.id)) as (
                path,
                step,
            ):
                digest = await asyncio.to_thread(_sha256, path)
                header = pb.ModelHeader(bytes=path.stat().st_size, sha256=digest, step=step)
                yield pb.DownloadModelResponse(header=header)
                with path.open("rb") as file:
                    while chunk := await asyncio.to_thread(file.read, _CHUNK):
                        yield pb.DownloadModelResponse(chunk=chunk)

    async def Predict(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PredictRequest], context: Context
    ) -> AsyncIterator[pb.PredictResponse]:
        """Answer each request with the outputs for its samples."""
        folder: Path | None = None
        with self._stream_of(context):
            async for request in request_iterator:
                if request.job_id or folder is None:
                    folder = self._supervisor.folder(self._job(request.job_id).job.id)
                yield pb.PredictResponse(output=await self._models.predict(folder, request.input))

    async def GetTimeline(  # noqa: N802
        self, request: pb.GetTimelineRequest, _: Context
    ) -> pb.GetTimelineResponse:
        """Trace a few steps of a running job."""
        record = self._job(request.job_id)
        steps = request.steps or 3
        if steps > 10:
            raise ServiceError(BAD_REQUEST, f"steps: {steps} is above 10")
        if record.job.state != RUNNING:
            raise _wrong_state(record, "be traced")
        try:
            trace = await self._cluster.timeline(record.actor, steps)
        except (ActorLost, ClusterDown) as error:
            raise ServiceError(NO_CLUSTER, str(error)) from error
        except ChildError as error:
            raise ServiceError(WRONG_STATE, f"{record.job.id}: {error}") from error
        return pb.GetTimelineResponse(chrome_trace_json=trace)

    def _job(self, job_id: str) -> Record:
        record = self._store.get(job_id)
        if record is None:
            what = "there is no job yet" if job_id == "latest" else f"there is no job '{job_id}'"
            raise ServiceError(NO_JOB, what)
        return record

    def _check_submission(self, request: pb.SubmitJobRequest) -> None:
        if self.stopping:
            raise ServiceError(
                STOPPING, "the service is stopping; submit again with the same request id"
            )
        if not _REQUEST_ID.fullmatch(request.request_id):
            raise ServiceError(BAD_REQUEST, "request_id: must be 8 to 64 of A-Z a-z 0-9 _ -")
        if request.priority not in _PRIORITIES:
            raise ServiceError(
                BAD_REQUEST, f"priority: {request.priority} is not between -100 and 100"
            )
        if request.spec.ByteSize() > self._limits.spec_bytes:
            raise ServiceError(TOO_MUCH, f"spec: is larger than {self._limits.spec_bytes:,} bytes")
        if not request.spec.task:
            raise ServiceError(BAD_JOB, "task: is missing")
        blocks = request.spec.blocks * replicas_of(request.spec)
        if blocks > self._limits.blocks:
            most = self._limits.blocks
            raise ServiceError(
                BAD_JOB, f"blocks: {blocks} is above {most}, of all replicas together"
            )
        queued = sum(r.job.state == QUEUED for r in self._store.newest_first())
        if queued >= self._limits.queued_jobs:
            raise ServiceError(
                TOO_MUCH, f"{queued} jobs are waiting already; submit when some have run"
            )

    @contextmanager
    def _stream_of(self, context: Context) -> Iterator[None]:
        """Count a client's open streams. Raises Fault when it has too many."""
        client = str(context.peer()).rpartition(":")[0]  # its address, any port
        if self._streams[client] >= self._limits.streams_per_client:
            raise ServiceError(TOO_MUCH, f"{self._streams[client]} streams of this client are open")
        self._streams[client] += 1
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]


def _of_a_message(events: list[Event]) -> list[Event]:
    """Return the first events, as many as a message of about 1 MiB holds; a stack trace is long."""
    held = 0
    for count, event in enumerate(events):
        held += event.ByteSize()
        if held > _CHUNK and count:
            return events[:count]
    return events


def _wrong_state(record: Record, what: str) -> ServiceError:
    return ServiceError(
        WRONG_STATE, f"{record.job.id} is {name(record.job.state)} and cannot {what}"
    )


def _stem(task: str) -> str:
    last = task.rpartition(":")[2] or task
    return re.sub(r"[^a-z0-9-]+", "-", last.lower()).strip("-")[:40] or "job"


def _page(token: str) -> int | None:
    if not token:
        return None
    if not token.isascii() or not token.isdecimal() or len(token) > 18:
        raise ServiceError(BAD_REQUEST, "page_token: take it from the response before")
    return int(token)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
