"""Takes the code that users upload: all of it, as it was listed, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from errorcast.v1 import service_pb2 as pb

from coordinator.job.code_listing import CodeListing, is_digest
from coordinator.service.api.calls import CALL
from coordinator.service.errors import (
    BAD_REQUEST,
    NOT_ALLOWED,
    TOO_MUCH,
    ServiceError,
)
from coordinator.service.jobs.job_code import needed
from coordinator.service.jobs.store import Store
from coordinator.service.jobs.uploads import Incoming, Uploads
from coordinator.service.processes import requirements
from coordinator.service.settings import ServiceSettings
from dfa_core.errors import JobError

_CHUNK = 1 << 20
_SILENT_S = 60.0  # how long the next part of an upload may take to arrive


class CodeReceiver:
    """Answers FindCode and UploadCode, for the user of the call."""

    def __init__(self, settings: ServiceSettings, uploads: Uploads, store: Store) -> None:
        self._settings, self._uploads, self._store = settings, uploads, store

    def check_allowed(self, code: str) -> None:
        """Raise ServiceError unless the caller may have uploaded code, and this is a digest."""
        user = CALL.get().user
        if not self._settings.uploads:
            raise ServiceError(
                NOT_ALLOWED, "code: this service does not accept uploads; it needs --allow-uploads"
            )
        if not user.upload:
            raise ServiceError(
                NOT_ALLOWED,
                f"code: {user.name} may not upload code; the operator can add the word 'upload' to "
                f"this user's line",
            )
        if code and not is_digest(code):
            raise ServiceError(BAD_REQUEST, "code: must be 64 digits of 0-9 a-f")

    async def find(self, request: pb.FindCodeRequest) -> pb.FindCodeResponse:
        """Return whether the service takes code, and whether the caller has uploaded this one.

        Raises ServiceError for a user who may not.
        """
        if not self._settings.uploads:
            return pb.FindCodeResponse()
        self.check_allowed(request.code)
        found = bool(request.code) and await asyncio.to_thread(
            self._uploads.has, CALL.get().user.name, request.code
        )
        return pb.FindCodeResponse(allowed=True, found=found)

    async def receive(self, requests: AsyncIterator[pb.UploadCodeRequest]) -> pb.UploadCodeResponse:
        """Take an upload. Raises ServiceError, and keeps nothing, unless all is as listed."""
        call = CALL.get()
        first = await _next(requests)
        self.check_allowed("")
        if first is None or not first.HasField("listing"):
            raise ServiceError(BAD_REQUEST, "listing: must come first")
        try:
            listing = CodeListing.of_message(first.listing)
        except JobError as error:
            raise ServiceError(BAD_REQUEST, str(error)) from error
        call.about = listing.digest
        self._check_room(call.user.name)
        with self._uploads.unfinished() as folder:
            await _take_all(requests, Incoming(folder / "files", listing))
            await self._install(listing, folder)
            await asyncio.to_thread(self._uploads.keep, folder, call.user.name, listing)
        return pb.UploadCodeResponse(code=listing.digest)

    def _check_room(self, owner: str) -> None:
        """Raise ServiceError for a user with many uploads that no job needs."""
        most = self._settings.limits.unused_uploads
        if self._uploads.unused(owner, needed(self._store.newest_first())) >= most:
            raise ServiceError(
                TOO_MUCH, f"code: {most} uploads are in no job; they are removed after an hour"
            )

    async def _install(self, listing: CodeListing, folder: Path) -> None:
        """Install what requirements.txt asks for and is not there. Raises ServiceError."""
        if requirements.FILE not in listing:
            return
        asked = requirements.read_requirements(folder / "files" / requirements.FILE)
        lacking = await asyncio.to_thread(requirements.missing, asked)
        if lacking and not self._settings.requirements:
            requirements.refuse(lacking)
        if lacking:
            await requirements.install(asked, folder / "packages")


async def _take_all(requests: AsyncIterator[pb.UploadCodeRequest], incoming: Incoming) -> None:
    while (request := await _next(requests)) is not None:
        if request.HasField("listing"):
            raise ServiceError(BAD_REQUEST, "listing: must come once")
        if len(request.chunk) > _CHUNK:
            raise ServiceError(BAD_REQUEST, f"chunk: is larger than {_CHUNK:,} bytes")
        await asyncio.to_thread(incoming.take, request.chunk)
    await asyncio.to_thread(incoming.finish)


async def _next(requests: AsyncIterator[pb.UploadCodeRequest]) -> pb.UploadCodeRequest | None:
    """Return the next part, None after the last. Raises ServiceError for a silent client."""
    try:
        return await asyncio.wait_for(anext(requests, None), _SILENT_S)
    except TimeoutError as error:
        raise ServiceError(BAD_REQUEST, f"nothing arrived for {_SILENT_S:.0f} s") from error
