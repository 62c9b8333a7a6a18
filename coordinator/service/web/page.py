"""Serves a page that shows the jobs as they run, and /metrics for Prometheus."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from errorcast.v1.event_pb2 import Event
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from coordinator.runs.valid_json import json_text
from coordinator.service.jobs.record import Record, replicas_of
from coordinator.service.jobs.states import RUNNING, name
from coordinator.service.jobs.store import Store
from coordinator.service.processes.child import ChildError
from coordinator.service.processes.cluster import ActorLost, ClusterDown, ClusterLink
from coordinator.service.settings import ServiceSettings, split_address
from coordinator.service.users import Users
from dfa_core.errors import JobError

_FILES = Path(__file__).parent / "assets"
_JOBS = 100
_EVENTS = 5000  # most events of one answer
_STEPS = 3
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen and return the page's address. Raises JobError when that fails."""
        address = self._settings.web or ""
        host, port = split_address("--web", address)
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", _index)
        app.router.add_get("/api/jobs", self._jobs)
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
            if data and not self._bears_token(request):
                response: web.StreamResponse = _answer({"error": "token"}, status=401)
            else:
                response = await handler(request)
        except web.HTTPException as error:
            response = _answer({"error": error.reason}, status=error.status)
        response.headers.update(_HEADERS)
        return response

    def _bears_token(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        return self._users.bearing(given) is not None

    async def _jobs(self, _: web.Request) -> web.Response:
        newest = self._store.newest_first()[:_JOBS]
        return _answer({"jobs": [_job_json(record) for record in newest]})

    async def _curves(self, request: web.Request) -> web.Response:
        record, after = self._job(request), request.query.get("after", "0")
        if not after.isdecimal() or len(after) > 18:
            raise web.HTTPBadRequest(reason="after: must be the number of an event")
        events = self._store.events(record.job.id, int(after), _EVENTS)
        return _answer(
            {
                "metrics": [_metrics_json(e) for e in events if e.HasField("metrics")],
                "evaluations": [_evaluation_json(e) for e in events if e.HasField("evaluation")],
                "after": events[-1].number if events else int(after),
            }
        )

    async def _timeline(self, request: web.Request) -> web.Response:
        record = self._job(request)
        if record.job.state != RUNNING:
            raise web.HTTPConflict(reason="the job is not running")
        try:
            trace = await self._cluster.timeline(record.actor, _STEPS)
        except (ActorLost, ClusterDown, ChildError) as error:
            raise web.HTTPConflict(reason="the job cannot be traced now") from error
        return web.Response(text=trace, content_type="application/json")

    def _job(self, request: web.Request) -> Record:
        record = self._store.get(request.match_info["id"])
        if record is None:
            raise web.HTTPNotFound(reason="there is no such job")
        return record


def _answer(found: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(found, status=status, dumps=json_text)  # browsers refuse NaN


async def _index(_: web.Request) -> web.FileResponse:
    return web.FileResponse(_FILES / "index.html")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _job_json(record: Record) -> dict[str, Any]:
    job, progress = record.job, record.job.progress
    return {
        "id": job.id,
        "state": name(job.state),
        "reason": job.reason,
        "blocks": job.spec.blocks,
        "replicas": replicas_of(job.spec),
        "heads": job.spec.heads,
        "step": progress.step,
        "total": progress.total_steps,
        "loss": progress.loss,
        "step_seconds": progress.step_seconds,
        "processes": [
            {"process": load.process, "layers": load.layers, "busy": load.busy}
            for load in progress.processes
        ],
    }


def _metrics_json(event: Event) -> dict[str, float]:
    return {"step": event.metrics.step, "loss": event.metrics.loss}


def _evaluation_json(event: Event) -> dict[str, Any]:
    return {"step": event.evaluation.step, "scores": dict(event.evaluation.scores)}
