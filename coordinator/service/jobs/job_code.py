"""Where a job's own code is while it runs: a copy of what its owner uploaded, in its run folder.

The spec that the service keeps names a file of the upload ("mytask.py:make_task"). What builds or
trains the task gets a spec that names the file's place on disk.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from errorcast.v1.job_pb2 import JobSpec, UploadedCode

from coordinator.job.code_listing import CodeListing
from coordinator.service.errors import NOT_ALLOWED, ServiceError
from coordinator.service.jobs.record import Record
from coordinator.service.jobs.uploads import Needed, Uploads
from coordinator.service.processes.model_client import Code


class Placed(NamedTuple):
    """A spec whose code is in its place, and the folders of modules that were installed for it."""

    spec: JobSpec
    folders: list[str]


class JobCode:
    """Puts the code of jobs where they find it.

    What is no coroutine reads and writes files at once: call it in a thread.
    """

    def __init__(self, uploads: Uploads, jobs: Path) -> None:
        """jobs: the folder that holds the jobs' run folders."""
        self._uploads, self._jobs = uploads, jobs

    def put(self, record: Record) -> Placed:
        """Copy a job's code into its run folder, where it is not there already.

        Raises ServiceError for code that was changed on the disk, or is gone.
        """
        spec = record.job.spec
        if not spec.code:
            return Placed(spec, [])
        folder = self._jobs / record.job.id / "code"
        self._uploads.unpack(record.job.owner, spec.code, folder)
        return self._placed(spec, record.job.owner, folder)

    def to_predict(self, record: Record) -> Code:
        """Return the code that a job's model needs, put in its place. Raises as put() does."""
        spec = record.job.spec
        if spec.code:
            return Code(f"{record.job.owner}/{spec.code}", self.put(record).folders)
        own = ":" in spec.task
        return Code(spec.task.rpartition(":")[0] if own else "")

    @asynccontextmanager
    async def for_a_check(self, spec: JobSpec, owner: str) -> AsyncIterator[Placed]:
        """Give, inside the block, a spec whose code is in a folder of this check's own.

        Raises ServiceError as put() does, and for a task that is no file of the code.
        """
        if not spec.code:
            yield Placed(spec, [])
            return
        check_task(spec, self._uploads.listing(owner, spec.code))
        copied = self._uploads.unpacked(owner, spec.code)
        folder = await asyncio.to_thread(copied.__enter__)
        try:
            yield self._placed(spec, owner, folder)
        finally:
            await asyncio.to_thread(copied.__exit__, None, None, None)

    def summary(self, spec: JobSpec, owner: str) -> UploadedCode | None:
        """Return what clients see of a job's code; None where it has none of its own."""
        if not spec.code:
            return None
        listing = self._uploads.listing(owner, spec.code)
        packages = bool(self._uploads.packages(owner, spec.code))
        return UploadedCode(files=len(listing), bytes=listing.bytes, packages=packages)

    async def collect(self, jobs: Iterable[Record]) -> None:
        """Remove the code that none of these jobs needs, and that was not asked for lately."""
        await asyncio.to_thread(self._uploads.collect, needed(jobs))

    async def release(self, owner: str, code: str, jobs: Iterable[Record]) -> None:
        """Remove the code of a deleted job, unless one of these jobs needs it."""
        if code and (owner, code) not in needed(jobs):
            await asyncio.to_thread(self._uploads.remove, owner, code)

    def _placed(self, spec: JobSpec, owner: str, folder: Path) -> Placed:
        placed = JobSpec()
        placed.CopyFrom(spec)
        path, _, function = spec.task.rpartition(":")
        placed.task, placed.code = f"{folder / path}:{function}", ""
        placed.working_dir = str((folder / path).parent)
        return Placed(placed, self._uploads.packages(owner, spec.code))


def needed(jobs: Iterable[Record]) -> Needed:
    """Return owner and digest of all uploads that jobs need."""
    return {(r.job.owner, r.job.spec.code) for r in jobs if r.job.spec.code}


def check_task(spec: JobSpec, files: CodeListing) -> None:
    """Raise ServiceError for a task that is no file of the code, and for a working folder."""
    path, colon, _ = spec.task.rpartition(":")
    if not colon or not path.endswith(".py") or path not in files:
        raise ServiceError(
            NOT_ALLOWED, f"task: {spec.task} is no file and function of the uploaded code"
        )
    if spec.working_dir:
        raise ServiceError(
            NOT_ALLOWED, "working_dir: uploaded code runs in its file's folder; remove it"
        )
