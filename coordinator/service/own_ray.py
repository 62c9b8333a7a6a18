"""A Ray of the service's own, that outlives a killed service and is found again by the next."""

import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from dfa_core.errors import JobError

_START_S = 60.0
_STOP_S = 10.0


@dataclass(frozen=True)
class OwnRay:
    """A running head node: the address of its GCS, and the process that started its processes."""

    address: str
    process: int
    folder: str


def token_of(state: Path) -> str:
    """Return the token that keeps others out of this Ray, made when it is first asked for."""
    path = state / "ray-token"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:  # noqa: PTH123
            file.write(secrets.token_hex(32))
    return path.read_text(encoding="utf-8")


def find(state: Path) -> OwnRay | None:
    """Return the Ray that an earlier service left running, if it still runs."""
    try:
        found = OwnRay(**json.loads((state / "ray.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if found.folder.encode() not in _command(found.process):
        return None
    if not _answers(int(found.address.rpartition(":")[2])):
        stop(found, state)  # half of it is left
        return None
    return found


def start(state: Path, cpus: int) -> OwnRay:
    """Start a head node on this machine. Raises JobError when it does not come up."""
    # Ray's folder: a socket's path may be 107 characters long, and the state folder's is the user's
    digest = hashlib.sha256(str(state).encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir()) / f"errorcast-{os.getuid()}-{digest}"
    port = _free_port()
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
            # at a SIGTERM it would wait for its actors to leave; stop() comes when jobs are saved
            env={**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
            start_new_session=True,  # not killed together with the service
        )
    deadline = time.monotonic() + _START_S
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise JobError(f"Ray could not be started on this machine; see {state / 'ray.log'}")
        time.sleep(0.05)  # a port tells nobody that it is open
    own = OwnRay(f"127.0.0.1:{port}", process.pid, str(folder))
    unfinished = state / ".ray.json.unfinished"
    unfinished.write_text(json.dumps(asdict(own)), encoding="utf-8")
    unfinished.replace(state / "ray.json")
    return own


def stop(own: OwnRay, state: Path) -> None:
    """End a head node and all that runs on it."""
    (state / "ray.json").unlink(missing_ok=True)
    with contextlib.suppress(ProcessLookupError):
        os.kill(own.process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _command(own.process) and time.monotonic() < deadline:
        time.sleep(0.05)  # it need not be a child of ours, whose end we would be told
    with contextlib.suppress(ProcessLookupError):
        os.killpg(own.process, signal.SIGKILL)


def _command(process: int) -> bytes:
    """Return a process's command line; nothing for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
