"""Starts real services for tests: processes of `errorcast serve`, each with a state folder."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from errorcast.v1.event_pb2 import Event
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.client import Client
from coordinator.service.api.server import SERVICE
from coordinator.service.processes import own_ray

ERRORCAST = Path(sys.executable).parent / "errorcast"
TOKEN = "a-token-of-the-tests-0123456789"
NO_RAY = ("--ray-address", "127.0.0.1:1")  # no cluster: what needs none is tested in a moment
QUICK = {"task": "digits", "options": {"width": 32}, "log_every": 1, "epochs": 2}


@dataclass
class Running:
    process: subprocess.Popen[str]
    address: str
    state: Path
    said: list[str]
    flags: tuple[str, ...] = ()
    token: str | None = None

    def client(self, **options: object) -> Client:
        return Client(self.address, **{"token": self.token, **options})  # type: ignore[arg-type]

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to know to reach it."""
        return {"ERRORCAST_ADDRESS": self.address, "ERRORCAST_TOKEN": self.token or ""}

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start it as before, at the same address, when it has ended or was killed."""
        again = start(self.state, *self.flags, listen=self.address, token=self.token)
        self.process, self.said = again.process, again.said


def start(
    state: Path, *flags: str, listen: str = "127.0.0.1:0", token: str | None = None
) -> Running:
    """Start a service and wait until it says where it listens.

    token: the secret that it asks for, if any; it is written beside `state`.
    """
    secret: tuple[str, ...] = ()
    if token is not None:
        file = state.with_name("token")
        file.write_text(token + "\n", encoding="utf-8")
        secret = ("--token-file", str(file))
    process = subprocess.Popen(
        [str(ERRORCAST), "serve", "--state", str(state), "--listen", listen, *secret, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("submit a job with"):
            break
    else:
        raise AssertionError("".join(said))
    threading.Thread(target=lambda: said.extend(process.stdout or []), daemon=True).start()
    address = next(s for s in said if s.startswith("listens on")).split()[2].rstrip(",")
    return Running(process, address, state, said, flags, token)


def stop(running: Running) -> int:
    """End a service as an operator does; return its exit code."""
    running.process.send_signal(signal.SIGTERM)
    try:
        return running.process.wait(90)
    finally:
        end_ray(running.state)


def end_ray(state: Path) -> None:
    """End the Ray that a killed service left: processes of this state folder alone."""
    own = own_ray.find(state)
    if own is None:
        return
    processes = [psutil.Process(own.process), *psutil.Process(own.process).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


@contextmanager
def serving(state: Path, *flags: str, token: str | None = None) -> Iterator[Running]:
    running = start(state, *flags, token=token)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            stop(running)
        end_ray(state)


def until_cluster(address: str, seconds: float = 180.0, authority: bytes | None = None) -> None:
    """Wait until a service has joined its cluster: its health says so.

    authority: PEM of the authority of its certificate, if it has one.
    """
    secure = grpc.ssl_channel_credentials(authority)
    plain = grpc.insecure_channel(address)
    with plain if authority is None else grpc.secure_channel(address, secure) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        for answer in stub.Watch(request, timeout=seconds, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


def events_to_end(client: Client, job_id: str, after: int = 0) -> list[Event]:
    return [news for news in client.watch(job_id, after) if isinstance(news, Event)]


def wait_for(client: Client, job_id: str, kind: str, after: int = 0) -> Event:
    """Return the next event of a kind, as soon as it happens."""
    for news in client.watch(job_id, after):
        if isinstance(news, Event) and news.WhichOneof("kind") == kind:
            return news
    raise AssertionError(f"{job_id} ended without a {kind} event")


def states_of(events: list[Event]) -> list[int]:
    return [event.state.state for event in events if event.HasField("state")]
