"""Builds the service, listens, and ends it without a loss."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import grpc
from errorcast.v1 import service_pb2, service_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.service.api.audit import Audit
from coordinator.service.api.interceptor import AuthInterceptor
from coordinator.service.api.methods import Methods
from coordinator.service.jobs.job_code import JobCode
from coordinator.service.jobs.notifier import JobNotifier
from coordinator.service.jobs.store import Store
from coordinator.service.jobs.supervisor import Supervisor
from coordinator.service.jobs.uploads import Uploads
from coordinator.service.processes import own_ray
from coordinator.service.processes.cluster import ClusterLink
from coordinator.service.processes.model_client import ModelClient
from coordinator.service.settings import ServiceSettings
from coordinator.service.users import Users
from dfa_core.errors import JobError

SERVICE = service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name
_GRACE_S = 5.0
_DRAIN_S = 60.0
_HEALTH_S = 0.5
_LOG_BYTES = 16 << 20

logger = logging.getLogger(__name__)

Announce = Callable[[str, str | None], None]


class Service:
    """One service process, from start to end."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Open the state folder. Raises JobError when it cannot be used."""
        settings.check()
        if not settings.ray_address:
            own_ray.check_folder(settings.state)
        self._settings = settings
        self._users = Users(settings.token, settings.users)
        self._store = Store(settings.state)
        self._uploads = Uploads(settings.state / "uploads")

    async def run(self, announce: Announce) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP.

        announce: called with the addresses of gRPC and of the page once the service listens.
        Raises JobError when the service cannot listen on an address.
        """
        async with AsyncExitStack() as at_end:
            at_end.callback(self._store.close)
            settings, notifier = self._settings, JobNotifier()
            cluster, models = ClusterLink(settings), ModelClient(settings.state)
            jobs = settings.state / "jobs"
            code = JobCode(self._uploads, jobs)
            at_end.push_async_callback(models.stop)
            at_end.push_async_callback(cluster.end)
            supervisor = Supervisor(self._store, cluster, notifier, jobs, code, self._users)
            at_end.push_async_callback(supervisor.leave)
            methods = Methods(
                settings, self._store, supervisor, cluster, models, notifier, self._uploads, code
            )
            server, status = self._server(methods)
            port = self._listen(server)
            page = await self._page(cluster, at_end)
            await models.start()
            stop = _stop_signal()
            work = [
                asyncio.create_task(cluster.keep_joined()),
                asyncio.create_task(supervisor.run()),
                asyncio.create_task(_report_health(status, cluster)),
                asyncio.create_task(stop.wait()),
            ]
            at_end.push_async_callback(_end, work)
            await server.start()
            announce(f"{settings.listen.rpartition(':')[0]}:{port}", page)
            ended, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            await self._finish(server, status, methods, supervisor, notifier)
            for task in ended:
                task.result()  # raises the error that ended it; none after a signal

    async def _finish(
        self,
        server: grpc.aio.Server,
        status: health.aio.HealthServicer,
        methods: Methods,
        supervisor: Supervisor,
        notifier: JobNotifier,
    ) -> None:
        """Let calls end, notify watchers, and save the jobs where Ray ends with the service."""
        logger.info("stopping")
        methods.stopping = True
        for name in ("", SERVICE):
            await status.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        notifier.notify_all()
        await server.stop(_GRACE_S)
        if not self._settings.ray_address:
            await supervisor.drain(_DRAIN_S)

    async def _page(self, cluster: ClusterLink, at_end: AsyncExitStack) -> str | None:
        if self._settings.web is None:
            return None
        from coordinator.service.web.metrics import JobMetrics  # noqa: PLC0415
        from coordinator.service.web.page import Page  # noqa: PLC0415

        JobMetrics(self._store.newest_first)
        page = Page(self._settings, self._store, cluster, self._users)
        at_end.push_async_callback(page.stop)
        return await page.start()

    def _server(self, methods: Methods) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
        limit = self._settings.limits.message_bytes
        audit = Audit(self._settings.state / "audit.jsonl")
        server = grpc.aio.server(
            interceptors=[AuthInterceptor(self._users, audit)],
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),  # a single sample may have a large output
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                (
                    "grpc.so_reuseport",
                    0,
                ),  # with it, two services could share one port and its calls
            ],
        )
        service_pb2_grpc.add_TrainingServiceServicer_to_server(methods, server)
        status = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server, status

    def _listen(self, server: grpc.aio.Server) -> int:
        settings, port = self._settings, 0
        try:
            if settings.certificate is None:
                port = server.add_insecure_port(settings.listen)
            else:
                port = server.add_secure_port(settings.listen, _credentials(settings))
        except (RuntimeError, OSError, ValueError) as error:
            raise JobError(f"--listen {settings.listen}: {_first_line(error)}") from error
        if port == 0:
            raise JobError(
                f"--listen {settings.listen}: the service cannot listen there; is the port in use?"
            )
        return port


def _credentials(settings: ServiceSettings) -> grpc.ServerCredentials:
    certificate, key = (_read(p) for p in (settings.certificate, settings.key))
    authority = _read(settings.client_ca) if settings.client_ca is not None else None
    return grpc.ssl_server_credentials(
        [(key, certificate)], authority, require_client_auth=authority is not None
    )


def _read(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path is not None else b""
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


async def _report_health(status: health.aio.HealthServicer, cluster: ClusterLink) -> None:
    """Report the process as SERVING at once, and the service while the cluster answers."""
    statuses = health_pb2.HealthCheckResponse
    await status.set("", statuses.SERVING)
    while True:
        await status.set(SERVICE, statuses.SERVING if cluster.up else statuses.NOT_SERVING)
        await asyncio.sleep(_HEALTH_S)


def _stop_signal() -> asyncio.Event:
    received = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        loop.add_signal_handler(signal.SIGHUP, received.set)
    return received


async def _end(work: Sequence[asyncio.Task[Any]]) -> None:
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)


def log_as_json(path: Path) -> None:
    """Write the service's log as one JSON object a line."""
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415

    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=4, encoding="utf-8")
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def serve(settings: ServiceSettings, announce: Announce) -> None:
    """Run a service until a signal ends it. Raises JobError for settings it cannot run with."""
    settings.check()
    service = Service(settings)
    log_as_json(settings.state / "service.log")
    asyncio.run(service.run(announce))
