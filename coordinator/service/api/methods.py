"""The methods of TrainingService: check a request, change the store, wake the supervisor."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from errorcast.v1 import service_pb2 as pb
from errorcast.v1 import service_pb2_grpc
from errorcast.v1.job_pb2 import JobSpec

from coordinator.service.api.allowed_paths import check_allowed_paths
from coordinator.service.api.calls import CALL
from coordinator.service.api.code_receiver import CodeReceiver
from coordinator.service.api.requests import (
    as_submitted,
    check_submission,
    check_workers,
    fitting_events,
    id_stem,
    page_of,
    wanted_shape,
    whole_inputs,
)
from coordinator.service.api.streams import Streams
from coordinator.service.errors import (
    BAD_REQUEST,
    NO_CLUSTER,
    NO_JOB,
    NOT_ALLOWED,
    STOPPING,
    TOO_MUCH,
    WRONG_STATE,
    ServiceError,
)
from coordinator.service.jobs.job_code import JobCode
from coordinator.service.jobs.notifier import JobNotifier
from coordinator.service.jobs.record import Record, workers_of
from coordinator.service.jobs.states import ACTIVE, CANCELLED, FINAL, PAUSED, QUEUED, RUNNING, name
from coordinator.service.jobs.store import Store
from coordinator.service.jobs.supervisor import Supervisor
from coordinator.service.jobs.transitions import cancel_now, rescale
from coordinator.service.jobs.uploads import Uploads
from coordinator.service.processes.child import ChildError
from coordinator.service.processes.cluster import ActorLost, ClusterDown, ClusterLink
from coordinator.service.processes.model_client import Code, ModelClient
from coordinator.service.settings import ServiceSettings
from coordinator.service.users import User

_CHUNK = 1 << 20
_BATCH = 200  # most events of a message
_PROGRESS_S = 0.5

Context = grpc.aio.ServicerContext[Any, Any]


class Methods(service_pb2_grpc.TrainingServiceServicer):
    """Implements the methods; a repeated call changes nothing more."""

    def __init__(
        self,
        settings: ServiceSettings,
        store: Store,
        supervisor: Supervisor,
        cluster: ClusterLink,
        models: ModelClient,
        notifier: JobNotifier,
        uploads: Uploads,
        code: JobCode,
    ) -> None:
        self._code, self._receiver = code, CodeReceiver(settings, uploads, store)
        self._settings, self._limits = settings, settings.limits
        self._store, self._supervisor, self._cluster = store, supervisor, cluster
        self._models, self._notifier = models, notifier
        self._streams = Streams(settings.limits.streams_per_client)
        self.stopping = False

    async def SubmitJob(self, request: pb.SubmitJobRequest, _: Context) -> pb.SubmitJobResponse:  # noqa: N802
        """Check a job and put it into the queue."""
        if self.stopping:
            raise ServiceError(
                STOPPING, "the service is stopping; submit again with the same request id"
            )
        call = CALL.get()
        call.about = request.spec.task
        check_submission(request, self._limits)
        queued = sum(r.job.state == QUEUED for r in self._store.newest_first())
        if queued >= self._limits.queued_jobs:
            raise ServiceError(TOO_MUCH, f"{queued} jobs are waiting; submit when some have run")
        sent = request.spec.SerializeToString(deterministic=True)
        known = self._store.submitted_as(request.request_id, sent, call.user.name)
        if known is None:
            known = await self._add(request, sent, call.user)
        call.about = known.job.id
        return pb.SubmitJobResponse(job=known.job)

    async def _add(self, request: pb.SubmitJobRequest, sent: bytes, user: User) -> Record:
        """Check a job and put it into the queue. Raises ServiceError."""
        spec = JobSpec()
        spec.CopyFrom(request.spec)
        if spec.code:
            self._receiver.check_allowed(spec.code)
        check_workers(workers_of(spec), user)
        opened = self._settings.code, self._settings.data, self._settings.uploads
        check_allowed_paths(spec, *opened)
        async with self._code.for_a_check(spec, user.name) as placed:
            spec = as_submitted(await self._models.check(*placed), request.spec)
            check_workers(workers_of(spec), user)
            # during the check another call with the same id may have added the job
            known = self._store.submitted_as(request.request_id, sent, user.name)
            if known is None:
                known = self._store.add(
                    spec,
                    request.request_id,
                    sent,
                    id_stem(spec.task),
                    request.priority,
                    user.name,
                    self._code.summary(spec, user.name),
                )
                self._supervisor.changed(known.job.id)
        return known

    async def FindCode(self, request: pb.FindCodeRequest, _: Context) -> pb.FindCodeResponse:  # noqa: N802
        """Return whether the service takes code, and whether the caller has uploaded this one."""
        return await self._receiver.find(request)

    async def UploadCode(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.UploadCodeRequest], context: Context
    ) -> pb.UploadCodeResponse:
        """Take the files of a user's code."""
        if self.stopping:
            raise ServiceError(STOPPING, "the service is stopping; upload again")
        with self._streams.of(context):
            return await self._receiver.receive(request_iterator)

    async def GetJob(self, request: pb.GetJobRequest, _: Context) -> pb.GetJobResponse:  # noqa: N802
        """Return a job."""
        return pb.GetJobResponse(job=self._job(request.job_id).job)

    async def ListJobs(self, request: pb.ListJobsRequest, _: Context) -> pb.ListJobsResponse:  # noqa: N802
        """Return a page of jobs, newest first."""
        return page_of(request, self._store.newest_first())

    async def WatchJob(  # noqa: N802
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Send the events after a number, then each new one until the job ends."""
        record = self._job(request.job_id)
        job_id, seen = record.job.id, request.after
        with self._streams.of(context), self._notifier.listener(job_id) as news:
            shown = 0.0
            loop = asyncio.get_running_loop()
            while True:
                news.clear()
                read = self._store.events(job_id, seen, _BATCH)
                events = fitting_events(read)
                if events:
                    yield pb.WatchJobResponse(events=events)
                    seen = events[-1].number
                if len(events) < len(read) or len(read) == _BATCH:
                    continue
                current = self._job(job_id).job
                if current.state in FINAL and seen >= current.events:
                    return
                if self.stopping:
                    raise ServiceError(
                        STOPPING, "the service is stopping; watch again from the last event"
                    )
                if current.state in ACTIVE and loop.time() - shown >= _PROGRESS_S:
                    yield pb.WatchJobResponse(progress=current.progress)
                    shown = loop.time()
                await news.wait()

    async def PauseJob(self, request: pb.PauseJobRequest, _: Context) -> pb.PauseJobResponse:  # noqa: N802
        """Save and stop a job."""
        record = self._own_job(request.job_id)
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
        record = self._own_job(request.job_id)
        if record.job.state in FINAL:
            raise _wrong_state(record, "be resumed")
        if record.job.state == PAUSED:
            changed = record.copy()
            changed.wanted = "run"
            events = rescale(changed)
            self._store.save(changed, [*events, changed.go_to(QUEUED, "resumed")])
        elif record.wanted == "pause":
            raise ServiceError(
                WRONG_STATE, f"{record.job.id} is being paused; resume it once it is PAUSED"
            )
        self._supervisor.changed(record.job.id)
        return pb.ResumeJobResponse(job=self._job(record.job.id).job)

    async def ScaleJob(self, request: pb.ScaleJobRequest, _: Context) -> pb.ScaleJobResponse:  # noqa: N802
        """Give a job another number of blocks, replicas or heads, or of workers."""
        record = self._own_job(request.job_id)
        if record.job.state in FINAL:
            raise _wrong_state(record, "be scaled")
        shape = wanted_shape(request, record.coming, self._limits)
        check_workers(request.workers, CALL.get().user)
        async with self._code.for_a_check(record.coming, record.job.owner) as placed:
            spec, folders = placed
            if request.workers:
                shape = await self._models.fastest(spec, request.workers, folders)
            spec.MergeFrom(shape)
            await self._models.check(spec, folders)
        wanted = record.coming
        wanted.MergeFrom(shape)
        check_workers(workers_of(wanted), CALL.get().user)
        changed = self._job(record.job.id).copy()
        if changed.coming != wanted:
            changed.scaling = shape.SerializeToString()
            events = rescale(changed) if changed.job.state not in ACTIVE else []
            self._store.save(changed, events)
            self._supervisor.changed(record.job.id)
        return pb.ScaleJobResponse(job=self._job(record.job.id).job)

    async def CancelJob(self, request: pb.CancelJobRequest, _: Context) -> pb.CancelJobResponse:  # noqa: N802
        """End a job."""
        record = self._own_job(request.job_id)
        changed = record.copy()
        events = cancel_now(changed)
        if events:
            self._store.save(changed, events)
            self._supervisor.changed(record.job.id)
        elif record.job.state != CANCELLED:
            raise _wrong_state(record, "be cancelled")
        return pb.CancelJobResponse(job=self._job(record.job.id).job)

    async def DeleteJob(self, request: pb.DeleteJobRequest, _: Context) -> pb.DeleteJobResponse:  # noqa: N802
        """Remove a job that has ended, with its files."""
        if self._store.was_deleted(request.job_id):
            CALL.get().about = request.job_id
            return pb.DeleteJobResponse()
        record = self._own_job(request.job_id)
        if record.job.state not in FINAL:
            raise _wrong_state(record, "be deleted; cancel it first")
        self._store.delete(record)
        self._notifier.notify(record.job.id)
        await self._supervisor.remove_files(record.job.id)
        left, code = self._store.newest_first(), record.job.spec.code
        await self._code.release(record.job.owner, code, left)
        return pb.DeleteJobResponse()

    async def DownloadModel(  # noqa: N802
        self, request: pb.DownloadModelRequest, context: Context
    ) -> AsyncIterator[pb.DownloadModelResponse]:
        """Send the weights of the newest checkpoint."""
        record = self._job(request.job_id)
        with self._streams.of(context):
            export = self._models.exported(self._supervisor.folder(record.job.id))
            async with export as (path, step):
                digest = await asyncio.to_thread(_sha256, path)
                header = pb.ModelHeader(bytes=path.stat().st_size, sha256=digest, step=step)
                yield pb.DownloadModelResponse(header=header)
                with path.open("rb") as file:
                    while chunk := await asyncio.to_thread(file.read, _CHUNK):
                        yield pb.DownloadModelResponse(chunk=chunk)

    async def Predict(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PredictRequest], context: Context
    ) -> AsyncIterator[pb.PredictResponse]:
        """Answer each request with the outputs of its samples, by the same weights in one call."""
        folder: Path | None = None
        code: Code | None = None
        weights: int | None = None  # the step that they are of
        with self._streams.of(context):
            async for request in whole_inputs(request_iterator, self._limits):
                if request.job_id or folder is None:
                    record = self._job(request.job_id)
                    folder, weights = self._supervisor.folder(record.job.id), None
                    code = await asyncio.to_thread(self._code.to_predict, record)
                async for part in self._models.predict(folder, request.input, weights, code):
                    weights = part.step
                    yield pb.PredictResponse(output=part.outputs)

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

    def _own_job(self, job_id: str) -> Record:
        """Return a job that the caller may change. Raises ServiceError."""
        call = CALL.get()
        call.about = job_id
        record = self._job(job_id)
        call.about = record.job.id
        if not call.user.may_change(record.job.owner):
            raise ServiceError(
                NOT_ALLOWED, f"{record.job.id} is a job of '{record.job.owner}', not yours"
            )
        return record

    def _job(self, job_id: str) -> Record:
        user = CALL.get().user
        record = self._store.get(job_id, None if user.admin else user.name)
        if record is None:
            what = "there is no job yet" if job_id == "latest" else f"there is no job '{job_id}'"
            raise ServiceError(NO_JOB, what)
        return record


def _wrong_state(record: Record, what: str) -> ServiceError:
    return ServiceError(
        WRONG_STATE, f"{record.job.id} is {name(record.job.state)} and cannot {what}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
