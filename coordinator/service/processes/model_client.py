"""The service's side of the child processes that run torch: checker, planner, model reader."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from errorcast.v1.job_pb2 import JobSpec
from errorcast.v1.service_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_INT64, Tensor

from coordinator.service.errors import (
    BAD_JOB,
    BAD_REQUEST,
    DAMAGED,
    INTERNAL,
    NO_CHECKPOINT,
    TOO_MUCH,
    ErrorKind,
    ServiceError,
)
from coordinator.service.processes.child import Child, ChildError, ChildGone
from coordinator.service.processes.frames import Frame, Header

_CHECK_S = 100.0
_PLAN_S = 60.0  # without any computing
_SILENT_S = 120.0  # a large model may compute for longer; the client can cancel
_NAMES = {DATA_TYPE_FLOAT32: "float32", DATA_TYPE_INT64: "int64"}
_BYTES = {DATA_TYPE_FLOAT32: 4, DATA_TYPE_INT64: 8}
_DIMENSIONS = 16
_PART_BYTES = 1 << 20  # a client's gRPC takes 4 MiB in one message, unless it is set otherwise
_ERROR_KINDS: dict[str, ErrorKind] = {
    "JobError": BAD_JOB,
    "TaskDied": BAD_JOB,
    "NoCheckpoint": NO_CHECKPOINT,
    "DamagedCheckpoint": DAMAGED,
    "BadInput": BAD_REQUEST,
}


@dataclass(frozen=True)
class Code:
    """A user's code: its name, which no other code has, and folders of modules installed for it."""

    name: str
    folders: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """The outputs of some samples, and the step of the weights that gave them."""

    outputs: Tensor
    step: int


class ModelClient:
    """Sends requests to both processes, and restarts one that has died."""

    def __init__(self, state: Path) -> None:
        self._checker = _OneByOne(Child("coordinator.service.processes.checker", state / "empty"))
        self._reader = _OneByOne(
            Child("coordinator.service.processes.model_process", state / "empty"), patient=True
        )
        self._planning = asyncio.Lock()  # two that measure at once would slow each other
        self._empty, self._exports = state / "empty", state / "exports"

    async def start(self) -> None:
        """Start the checker, so that the first job does not wait for it."""
        await self._checker.start()

    async def check(self, spec: JobSpec, folders: Sequence[str] = ()) -> JobSpec:
        """Return a spec with every field filled. Raises ServiceError for one that cannot run.

        folders: of modules that were installed for the job's code.
        """
        header = {"folders": list(folders)}
        try:
            _, resolved = await self._checker.ask(header, spec.SerializeToString(), _CHECK_S)
        except ChildGone as error:
            text = "the task could not be built within 10 s of CPU and 8 GiB; make it smaller"
            raise ServiceError(BAD_JOB, text) from error
        return JobSpec.FromString(resolved)

    async def fastest(self, spec: JobSpec, workers: int, folders: Sequence[str] = ()) -> JobSpec:
        """Return the fastest shape of these workers for a job, from its layers measured here.

        The spec that is returned holds blocks, replicas, heads and the head's place, and nothing
        else. Raises ServiceError.
        """
        async with self._planning:
            child = Child("coordinator.service.processes.planner", self._empty)
            planner = _OneByOne(child, patient=True)
            try:
                header: Header = {"workers": workers, "folders": list(folders)}
                _, shape = await planner.ask(header, spec.SerializeToString(), _PLAN_S)
            except ChildGone as error:
                text = "the layers could not be measured; give blocks, replicas and heads instead"
                raise ServiceError(BAD_JOB, f"workers: {text}") from error
            finally:
                await planner.stop()
        return JobSpec.FromString(shape)

    @contextlib.asynccontextmanager
    async def exported(self, run_dir: Path) -> AsyncIterator[tuple[Path, int]]:
        """Give, inside the block, a file with the newest weights, and their step.

        Raises ServiceError.
        """
        self._exports.mkdir(exist_ok=True)
        output = self._exports / f"{run_dir.name}-{id(run_dir):x}.safetensors"
        try:
            header, _ = await self._read(
                {"do": "export", "run_dir": str(run_dir), "output": str(output)}
            )
            yield output, header["step"]
        finally:
            output.unlink(missing_ok=True)

    async def predict(
        self, run_dir: Path, samples: Tensor, step: int | None, code: Code | None = None
    ) -> AsyncIterator["Part"]:
        """Yield the outputs of samples in order, in parts of about 1 MiB.

        A part holds whole samples, at least one.

        step: of the weights; None takes the newest.
        code: the user's code that the model needs, if any.

        Raises ServiceError.
        """
        if samples.type not in _NAMES or not 1 <= len(samples.shape) <= _DIMENSIONS:
            raise ServiceError(BAD_REQUEST, "input: must have a type and 1 to 16 dimensions")
        entries = prod(samples.shape)
        if entries == 0 or entries * _BYTES[samples.type] != len(samples.data):
            raise ServiceError(
                BAD_REQUEST,
                f"input: {len(samples.data):,} bytes do not fit {entries:,} entries",
            )
        each = len(samples.data) // samples.shape[0]
        first, rows = 0, samples.shape[0]
        while first < samples.shape[0]:
            rows = min(rows, samples.shape[0] - first)
            request: Header = {
                "do": "predict",
                "run_dir": str(run_dir),
                "type": _NAMES[samples.type],
                "shape": [rows, *samples.shape[1:]],
                "step": step,
                "bytes": _PART_BYTES,
                "folders": list(code.folders) if code is not None else [],
            }
            body = samples.data[first * each :][: rows * each]
            header, data = await self._read(request, body, code.name if code is not None else "")
            step, rows = header["step"], header["samples"]  # no more would fit the next time
            first += rows
            outputs = Tensor(type=DATA_TYPE_FLOAT32, shape=header["shape"], data=data)
            yield Part(outputs, header["step"])

    async def stop(self) -> None:
        """End both processes."""
        await asyncio.gather(self._checker.stop(), self._reader.stop())

    async def _read(self, request: Header, body: bytes = b"", code: str | None = None) -> Frame:
        try:
            return await self._reader.ask(request, body, _SILENT_S, code)
        except ChildGone as error:
            raise ServiceError(
                TOO_MUCH,
                f"the model does not fit in memory, or has computed nothing for {_SILENT_S:g} s",
            ) from error


class _OneByOne:
    """A child that answers one request at a time."""

    def __init__(self, child: Child, patient: bool = False) -> None:
        """patient: whether to wait for as long as the child computes."""
        self._child, self._lock, self._patient = child, asyncio.Lock(), patient
        self._code = ""  # the name of the user's code that the process has imported

    async def start(self) -> None:
        async with self._lock:
            if not self._child.alive:
                await self._child.start()

    async def ask(
        self, request: Header, body: bytes, seconds: float, code: str | None = None
    ) -> Frame:
        """Ask the child.

        code: name of the user's code that the request runs, empty for none; it does not meet the
            modules of other code. None: the request runs no such code.
        """
        async with self._lock:
            if code is not None and self._code not in ("", code):
                await self._child.stop()
            if not self._child.alive:
                await self._child.start()
                self._code = ""
            self._code = code or self._code
            try:
                return await self._child.ask(request, body, seconds, self._patient)
            except ChildError as error:
                kind = _ERROR_KINDS.get(error.kind, INTERNAL)
                raise ServiceError(
                    kind, str(error) if kind is not INTERNAL else error.kind
                ) from error
            except (ChildGone, asyncio.CancelledError):
                self._child.kill()  # it may still work on a request that nobody waits for
                raise

    async def stop(self) -> None:
        await self._child.stop()
