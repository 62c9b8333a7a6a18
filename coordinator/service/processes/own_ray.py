"""The service's own Ray. It outlives a killed service, and the next service finds it again."""

import contextlib
import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from dfa_core.errors import JobError
from workers.machine.ray_folder import check_sockets
from workers.machine.ray_settings import RAY_SETTINGS, START_S

_STOP_S = 10.0
_POLL_S = 0.5


@dataclass(frozen=True)
class OwnRay:
    """A running head node: the address of its GCS, its first process, and Ray's folder."""

    address: str
    process: int
    folder: str


def token_of(state: Path) -> str:
    """Return the token that keeps others out of this Ray; the first call makes it."""
    path = state / "ray-token"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:  # noqa: PTH123
            file.write(secrets.token_hex(32))
    return path.read_text(encoding="utf-8")


def find(state: Path) -> OwnRay | None:
    """Return the Ray that an earlier service left running or was starting, or None."""
    folder = str(_folder(state))
    for process in Path("/proc").glob("[0-9]*"):
        words = _command(int(process.name))
        if "ray.scripts.scripts" in words and folder in words:
            port = words[words.index("--port") + 1]
            return OwnRay(f"127.0.0.1:{port}", int(process.name), folder)
    return None


def check_folder(state: Path) -> None:
    """Raise JobError when a Ray for this state folder cannot open its sockets."""
    check_sockets(_folder(state))


def find_or_start(state: Path, cpus: int) -> OwnRay:
    """Return the service's Ray once it answers. Raises JobError when it does not start."""
    own = find(state)
    if own is None or not _comes_up(own):
        if own is not None:
            stop(own)  # some of its processes are left
        own = _start(state, cpus)
        if not _comes_up(own):
            stop(own)
            raise JobError(f"Ray cannot be started on this machine; see {state / 'ray.log'}")
    return own


def end_with(own: OwnRay) -> None:
    """End this process as soon as its Ray has ended; the driver itself notices after a minute."""

    def watch() -> None:
        while _command(own.process):
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="ray", daemon=True).start()


def stop(own: OwnRay) -> None:
    """End a head node and all processes on it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(own.process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _command(own.process) and time.monotonic() < deadline:
        time.sleep(0.05)  # polled, since it may not be a child of this process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(own.process, signal.SIGKILL)


def _start(state: Path, cpus: int) -> OwnRay:
    port, folder = _free_port(), _folder(state)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--port", str(port), "--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus)),
        *("--temp-dir", str(folder), "--include-dashboard", "false", "--disable-usage-stats"),
    ]
    empty = state / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    with (state / "ray.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=empty,
            # no wait for actors after a SIGTERM: stop() is called when the jobs are saved
            env={**RAY_SETTINGS, **os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
            start_new_session=True,  # must outlive a killed service
        )
    return OwnRay(f"127.0.0.1:{port}", process.pid, str(folder))


def _folder(state: Path) -> Path:
    """Return Ray's folder; outside `state`, since a socket's path is limited to 107 characters."""
    digest = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return Path(base).absolute() / f"errorcast-{os.getuid()}-{digest}"


def _comes_up(own: OwnRay) -> bool:
    deadline = time.monotonic() + START_S
    while _command(own.process) and time.monotonic() < deadline:
        if _answers(int(own.address.rpartition(":")[2])):
            return True
        time.sleep(0.05)  # nothing notifies us that a port is open
    return False


def _command(process: int) -> list[str]:
    """Return a process's command line; an empty list when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8").split("\0")[:-1]
    except (OSError, UnicodeDecodeError):
        return []


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
