"""The connection to a service, and its methods."""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import stamina
from errorcast.v1 import service_pb2 as pb
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import Job, JobSpec, JobState, Progress
from errorcast.v1.service_pb2_grpc import TrainingServiceStub

from coordinator.client.arrays import CHUNK, TYPES, Array, array, pieces
from coordinator.client.errors import (
    ServiceRefused,
    ServiceUnreachable,
    explained,
    without_proxy,
)
from coordinator.client.packing import PackedCode, pack_folder_of
from coordinator.job.spec import parse
from dfa_core.atomic_file import atomic_path
from dfa_core.errors import JobError, TrainingFailed

DEFAULT_ADDRESS = "127.0.0.1:7070"

_CALL_S = 120.0
_UPLOAD_S = 1200.0  # the service may install packages meanwhile
_FIRST_S = 3.0  # how long to try a service that has never answered; it may be starting
_AGAIN_S = 60.0  # how long to try one that has answered before; it may be restarting


class Client:
    """A connection to one service; use it as a context manager.

    Methods raise ServiceRefused (a JobError) for a request that the service refuses, and
    ServiceUnreachable if the service does not answer. A job id may be "latest".
    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        tls_ca: bytes | None = None,
        certificate: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Prepare a connection; the first call opens it.

        address: host:port; by default ERRORCAST_ADDRESS, or 127.0.0.1:7070 without it.
        token: the service's secret; by default ERRORCAST_TOKEN, or none without it.
        tls_ca: PEM of the authority that signed the service's certificate; None connects without
            TLS.
        certificate: PEM (key, certificate chain) of this client, for a service that requires one.
        """
        self.address = address or os.environ.get("ERRORCAST_ADDRESS") or DEFAULT_ADDRESS
        secret = token or os.environ.get("ERRORCAST_TOKEN")
        self._reached = False
        self._metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
        options = [
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.max_receive_message_length", -1),  # a single sample may have a large output
            *without_proxy(self.address),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if tls_ca is None:
            self._channel = grpc.insecure_channel(self.address, options)
        else:
            key, chain = certificate or (None, None)
            credentials = grpc.ssl_channel_credentials(tls_ca, key, chain)
            self._channel = grpc.secure_channel(self.address, credentials, options)
        self._stub = TrainingServiceStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def submit(
        self,
        spec: JobSpec | None = None,
        *,
        priority: int = 0,
        request_id: str | None = None,
        **settings: Any,
    ) -> Job:
        """Submit a job: a JobSpec, or its fields as in `errorcast.train` (task="digits", ...).

        If the task is a file here ("mytask.py:make_task") and the service takes code, the folder of
        that file is sent first. Otherwise the task names a file that the service has. A JobSpec is
        sent unchanged.

        spec: the job; None: the settings describe it.
        priority: a job with a higher priority starts first.
        request_id: random by default; a second submission with the same id returns the same job.
        settings: fields of the job.

        Raises JobError, before anything is sent, for a folder that cannot be sent.
        """
        code = None
        if spec is None:
            spec = parse(settings)
            code = self._own_code(spec)
        request = pb.SubmitJobRequest(
            spec=spec, request_id=request_id or uuid.uuid4().hex, priority=priority
        )
        if code is None:
            answer: pb.SubmitJobResponse = self._call(self._stub.SubmitJob, request)
            return answer.job
        return self._submit_with(code, request)

    def _own_code(self, spec: JobSpec) -> PackedCode | None:
        """Pack the folder of the task's file; None where the task is one that the service has."""
        if spec.task.endswith(".py") and Path(spec.task).is_file():
            raise JobError(f"task: {spec.task}: name its function too: {spec.task}:make_task")
        path, colon, _ = spec.task.rpartition(":")
        if not colon or spec.code or not path.endswith(".py") or not Path(path).is_file():
            return None
        try:
            packed = pack_folder_of(Path(path))
        except JobError:
            if self._takes_code():
                raise
            return None
        return packed if self._takes_code() else None

    def _takes_code(self) -> bool:
        """Return whether the service takes code; one that does not answer may."""
        try:
            return bool(self._call(self._stub.FindCode, pb.FindCodeRequest()).allowed)
        except ServiceUnreachable:
            return True
        except ServiceRefused as error:
            return error.status is not grpc.StatusCode.UNIMPLEMENTED  # an older version

    def _submit_with(self, code: PackedCode, request: pb.SubmitJobRequest) -> Job:
        """Submit a job with its code, which is sent where the service does not have it yet."""
        path, _, function = request.spec.task.rpartition(":")
        request.spec.task, request.spec.code = f"{Path(path).name}:{function}", code.listing.digest
        find = pb.FindCodeRequest(code=code.listing.digest)
        for last in (False, True):
            if not self._call(self._stub.FindCode, find).found:
                self._upload(code)
            try:
                answer: pb.SubmitJobResponse = self._call(self._stub.SubmitJob, request)
                return answer.job
            except ServiceRefused as error:  # the last job that needed it has just been deleted
                if last or not str(error).startswith("NO_CODE"):
                    raise
        raise AssertionError("the second time returns or raises")

    def _upload(self, code: PackedCode) -> None:
        def messages() -> Iterator[pb.UploadCodeRequest]:
            yield pb.UploadCodeRequest(listing=code.listing.message())
            for chunk in code.chunks(CHUNK):
                yield pb.UploadCodeRequest(chunk=chunk)

        def send(_: None, **options: Any) -> pb.UploadCodeResponse:
            answer: pb.UploadCodeResponse = self._stub.UploadCode(messages(), **options)
            return answer

        self._call(send, None, _UPLOAD_S)

    def job(self, job_id: str) -> Job:
        """Return a job."""
        answer: pb.GetJobResponse = self._call(self._stub.GetJob, pb.GetJobRequest(job_id=job_id))
        return answer.job

    def jobs(self, states: Iterable[JobState.ValueType] = ()) -> Iterator[Job]:
        """Yield all jobs, or those in the given states, newest first."""
        token, wanted = "", list(states)
        while True:
            request = pb.ListJobsRequest(page_token=token, states=wanted, page_size=200)
            answer: pb.ListJobsResponse = self._call(self._stub.ListJobs, request)
            yield from answer.jobs
            token = answer.next_page_token
            if not token:
                return

    def watch(self, job_id: str, after: int = 0) -> Iterator[Event | Progress]:
        """Yield each event once, and progress in between, until the job ends.

        After a lost connection, it continues after the last event that has arrived.

        after: number of the last event that you have seen already.
        """
        job_id = self.job(job_id).id  # "latest" keeps meaning this job
        seen = after
        while True:
            request = pb.WatchJobRequest(job_id=job_id, after=seen)
            try:
                for news in self._stub.WatchJob(request, metadata=self._metadata):
                    for event in news.events:
                        seen = event.number
                        yield event
                    if news.HasField("progress"):
                        yield news.progress
                return
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise explained(error, self.address) from None
            self.job(job_id)  # retries for a while, then raises ServiceUnreachable

    def pause(self, job_id: str) -> Job:
        """Save and stop a job."""
        answer: pb.PauseJobResponse = self._call(
            self._stub.PauseJob, pb.PauseJobRequest(job_id=job_id)
        )
        return answer.job

    def resume(self, job_id: str) -> Job:
        """Put a paused job back into the queue."""
        answer: pb.ResumeJobResponse = self._call(
            self._stub.ResumeJob, pb.ResumeJobRequest(job_id=job_id)
        )
        return answer.job

    def scale(
        self,
        job_id: str,
        blocks: int = 0,
        replicas: int = 0,
        heads: int | None = None,
        workers: int = 0,
    ) -> Job:
        """Give a job another number of blocks, replicas and heads.

        A number that you do not give stays as it is.

        workers: number of workers, instead of the three others; the service then chooses the
            fastest blocks, replicas and heads.
        """
        request = pb.ScaleJobRequest(
            job_id=job_id, blocks=blocks, replicas=replicas, heads=heads, workers=workers
        )
        answer: pb.ScaleJobResponse = self._call(self._stub.ScaleJob, request)
        return answer.job

    def cancel(self, job_id: str) -> Job:
        """End a job."""
        answer: pb.CancelJobResponse = self._call(
            self._stub.CancelJob, pb.CancelJobRequest(job_id=job_id)
        )
        return answer.job

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended, with its files."""
        self._call(self._stub.DeleteJob, pb.DeleteJobRequest(job_id=job_id))

    def download(self, job_id: str, output: Path) -> int:
        """Write the newest weights into a safetensors file and return their step.

        output: the file.

        Raises TrainingFailed, and writes no file, when they arrive damaged.
        """
        digest, header = hashlib.sha256(), pb.ModelHeader()
        request = pb.DownloadModelRequest(job_id=job_id)
        try:
            with atomic_path(output) as unfinished:
                with unfinished.open("wb") as file:
                    for message in self._stub.DownloadModel(request, metadata=self._metadata):
                        if message.HasField("header"):
                            header = message.header
                        digest.update(message.chunk)
                        file.write(message.chunk)
                if digest.hexdigest() != header.sha256:
                    raise TrainingFailed(
                        f"{output}: the weights arrived damaged; download them again"
                    )
        except grpc.RpcError as error:
            raise explained(error, self.address) from None
        return int(header.step)

    def predict(self, job_id: str, samples: Array) -> Array:
        """Return the head's outputs, (samples, ...), computed with the newest weights.

        samples: (samples, ...), floating point or integers.

        Raises JobError if there are no samples.
        """
        kind = "int64" if np.issubdtype(samples.dtype, np.integer) else "float32"
        samples = np.ascontiguousarray(samples.astype(kind))
        if len(samples) == 0:
            raise JobError("input: has no samples")
        rows = max(1, CHUNK // max(1, samples[0].nbytes))

        def requests() -> Iterator[pb.PredictRequest]:
            for first in range(0, len(samples), rows):
                chunk = samples[first : first + rows]
                yield from pieces(job_id if first == 0 else "", chunk, TYPES[kind])

        try:
            answers = self._stub.Predict(requests(), metadata=self._metadata)
            outputs = [array(answer.output) for answer in answers]
        except grpc.RpcError as error:
            raise explained(error, self.address) from None
        return np.concatenate(outputs)

    def timeline(self, job_id: str, steps: int = 3) -> str:
        """Return a Chrome trace (JSON) of the next steps of a running job."""
        request = pb.GetTimelineRequest(job_id=job_id, steps=steps)
        answer: pb.GetTimelineResponse = self._call(self._stub.GetTimeline, request)
        return answer.chrome_trace_json

    def _call(self, method: Any, request: Any, seconds: float = _CALL_S) -> Any:
        """Call a method; retry for some time while the service does not answer."""

        def unavailable(error: Exception) -> bool:
            code = error.code() if isinstance(error, grpc.RpcError) else None
            return code is grpc.StatusCode.UNAVAILABLE

        try:
            patience = _AGAIN_S if self._reached else _FIRST_S
            for attempt in stamina.retry_context(
                on=unavailable, attempts=None, wait_initial=0.1, wait_max=1.0, timeout=patience
            ):
                with attempt:
                    answer = method(request, timeout=seconds, metadata=self._metadata)
                    self._reached = True
                    return answer
        except grpc.RpcError as error:
            raise explained(error, self.address) from None
        raise AssertionError("every retry returns or raises")
