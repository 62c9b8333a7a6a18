"""Starts a Ray of our own for one run, or joins a cluster that is there."""

import contextlib
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import ray

from coordinator.launch.interrupts import kept_from_ray
from dfa_core import JobError
from workers.machine.cpus import usable_cpus
from workers.machine.ray_folder import check_sockets, default_folder
from workers.machine.ray_settings import RAY_SETTINGS, START_S

_REACH_S = 10.0
_STARTS = 3
_LOOK_S = 0.1
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
_OWN = threading.Lock()


@contextlib.contextmanager
def one_own_ray_at_a_time() -> Iterator[None]:
    """Let runs of several threads take turns, where each would start a Ray of its own.

    A process can have one Ray. One that the process has joined already serves any number of runs.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(_OWN)
        if ray.is_initialized():
            held.close()
        yield


@contextlib.contextmanager
def ray_for(workers: int, cpus: float, address: str | None = None) -> Iterator[None]:
    """Have Ray running inside the block: the one already joined, a cluster's, or one of our own.

    workers, cpus: what the job will ask for; an embedded Ray promises that much on any machine.
    address: of a running cluster, or "auto".

    Raises JobError when the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    # Ray prints a paragraph on the driver's terminal about each worker that died. No setting of Ray
    # prevents that; errorcast reports the death in one line
    vars(ray._private.worker)["_worker_logs_enabled"] = False
    for name in ("ERRORCAST_DATA", "ERRORCAST_CACHE"):  # workers read them in another folder
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().absolute())
    # Ray puts the current folder first on its workers' path, where a user's workers.py would hide
    # ours: start Ray in an empty folder, which its processes then keep as their own
    with tempfile.TemporaryDirectory(prefix="errorcast-") as empty:
        with contextlib.chdir(empty), kept_from_ray():
            if address is not None:
                _join(address)
            else:
                _start(workers, cpus)
        try:
            yield
        finally:
            ray.shutdown()


def _start(workers: int, cpus: float) -> None:
    # Ray's processes listen on all interfaces even when given an address; what keeps others out is
    # its token, which ray.init switches on for a cluster of its own (Ray 2.60)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name, setting in RAY_SETTINGS.items():
        os.environ.setdefault(name, setting)
    folder = default_folder()
    check_sockets(folder)
    for left in reversed(range(_STARTS)):
        try:
            with _time_to_start():
                ray.init(
                    address="local",  # not a cluster that happens to run on this machine
                    num_cpus=max(usable_cpus(), ceil(workers * cpus)),
                    _temp_dir=str(folder),
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    **_QUIET,
                )
            return
        except Exception as error:
            if left == 0 or not raylet_died():
                raise JobError(f"Ray could not be started on this machine: {error}") from error
            ray.shutdown()


@contextlib.contextmanager
def _time_to_start() -> Iterator[None]:
    """Give Ray's node minutes to start: its own limit of 30 s is too short for a busy machine."""
    services = ray._private.services
    get_node = services.get_node

    def get_node_in_time(gcs_address: str, node_id: str) -> Any:
        deadline = monotonic() + START_S
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:  # it has not started yet
                if monotonic() > deadline or raylet_died():
                    raise
                sleep(_LOOK_S)

    services.get_node = get_node_in_time
    try:
        yield
    finally:
        services.get_node = get_node


def raylet_died() -> bool:
    """Return whether a node's process that this process has started is dead.

    On a very busy machine it gives up after 30 s if another process of Ray's has not started yet;
    ray.init itself would keep waiting for it.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(") ")
            state, parent = rest.split()[:2]
            if name == "raylet" and state == "Z" and int(parent) == os.getpid():
                return True
    return False


def _join(address: str) -> None:
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdigit():  # Ray itself would try for minutes, and print each attempt
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
        ray.init(address=address, **_QUIET)
    except Exception as error:
        what = " ".join(str(error).split())
        raise JobError(
            f"--ray-address {address}: no Ray cluster could be joined there ({what}); a cluster "
            f"with a token needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
