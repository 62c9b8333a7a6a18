"""Serves a page that shows the jobs as they run, and /metrics for Prometheus."""

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from coordinator.runs.valid_json import json_text
from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import RUNNING
from coordinator.service.jobs.store import Store
from coordinator.service.processes.child import ChildError
from coordinator.service.processes.cluster import ActorLost, ClusterDown, ClusterLink
from coordinator.service.settings import ServiceSettings, split_address
from coordinator.service.users import User, Users
from coordinator.service.web.job_json import curves, job_details, job_row
from dfa_core.errors import JobError

_FILES = Path(__file__).parent / "assets"
_JOBS = 1000  # most of the first answer, the newest
_EVENTS = 2000  # most of one answer
_STEPS = 3
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """Serves the page; its data needs the same token as gRPC."""

    def __init__(
        self, settings: ServiceSettings, store: Store, cluster: ClusterLink, users: Users
    ) -> None:
        self._settings, self._store, self._cluster = settings, store, cluster
        self._users = users
        self._process = secrets.token_hex(4)  # revisions of another process are not ours
        self._traces: dict[str, asyncio.Task[str]] = {}  # by the job's actor
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen and return the page's address. Raises JobError when that fails."""
        address = self._settings.web or ""
        host, port = split_address("--web", address)
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", _index)
        app.router.add_get("/api/jobs", self._jobs)
        app.router.add_get("/api/jobs/{id}", self._details)
        app.router.add_get("/api/jobs/{id}/curves", self._curves)
        app.router.add_get("/api/jobs/{id}/timeline", self._timeline)
        app.router.add_get("/metrics", _metrics)
        app.router.add_static("/", _FILES)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=self._tls()).start()
        except OSError as error:
            raise JobError(f"--web {address}: cannot listen there: {error.strerror}") from error
        scheme = "https" if self._settings.certificate else "http"
        return f"{scheme}://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._settings.certificate, self._settings.key)
        if self._settings.client_ca is not None:
            context.load_verify_locations(self._settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        data = request.path.startswith("/api/") or request.path == "/metrics"
        try:
            user = self._users.bearing(_authorization(request)) if data else None
            if data and user is None:
                response: web.StreamResponse = _answer({"error": "token"}, status=401)
            else:
                request["user"] = user
                response = await handler(request)
        except web.HTTPException as error:
            response = _answer({"error": error.reason}, status=error.status)
        response.headers.update(_HEADERS)
        return response

    async def _jobs(self, request: web.Request) -> web.Response:
        """Answer with the jobs that changed since an earlier answer, or with all jobs."""
        since = self._revision(request.query.get("since", ""))
        newest = self._store.newest_first()
        found = newest[:_JOBS] if since is None else self._store.changed_since(since)
        return _answer(
            {
                "revision": f"{self._process}.{self._store.revision}",
                "all": since is None,
                "user": request["user"].name,
                "count": len(newest),
                "jobs": [job_row(record) for record in found if not record.deleted],
                "deleted": [record.job.id for record in found if record.deleted],
            }
        )

    def _revision(self, known: str) -> int | None:
        """Return the revision that a client knows; None unless it is one of this process."""
        process, _, number = known.partition(".")
        if process != self._process or not _is_number(number):
            return None
        return int(number)

    async def _details(self, request: web.Request) -> web.Response:
        return _answer(job_details(self._job(request)))

    async def _curves(self, request: web.Request) -> web.Response:
        record, after = self._job(request), request.query.get("after", "0")
        if not _is_number(after):
            raise web.HTTPBadRequest(reason="after: must be the number of an event")
        events = self._store.events(record.job.id, int(after), _EVENTS)
        newest = events[-1].number if events else int(after)
        more = len(events) == _EVENTS
        return _answer({**curves(events), "after": newest, "more": more})

    async def _timeline(self, request: web.Request) -> web.Response:
        record = self._job(request)
        if record.job.state != RUNNING:
            raise web.HTTPConflict(reason="the job is not running")
        try:
            trace = await asyncio.shield(self._trace(record.actor))
        except (ActorLost, ClusterDown, ChildError) as error:
            raise web.HTTPConflict(reason="the job cannot be traced now") from error
        return web.Response(text=trace, content_type="application/json")

    def _trace(self, actor: str) -> "asyncio.Task[str]":
        """Return the trace of a job that is being made; a second one would end the first."""
        if actor not in self._traces:
            self._traces[actor] = asyncio.create_task(self._cluster.timeline(actor, _STEPS))
            self._traces[actor].add_done_callback(lambda _: self._traces.pop(actor))
        return self._traces[actor]

    def _job(self, request: web.Request) -> Record:
        user: User = request["user"]
        record = self._store.get(request.match_info["id"], None if user.admin else user.name)
        if record is None:
            raise web.HTTPNotFound(reason="there is no such job")
        return record


def _authorization(request: web.Request) -> bytes:
    return request.headers.get("Authorization", "").encode(errors="surrogateescape")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def _answer(found: dict[str, Any], status: int = 200) -> web.Response:
    answer = web.json_response(found, status=status, dumps=json_text)  # browsers refuse NaN
    answer.enable_compression()
    return answer


async def _index(_: web.Request) -> web.FileResponse:
    return web.FileResponse(_FILES / "index.html")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
