"""Finds the processes of a Ray, to kill one."""

import contextlib

import psutil


def ray_processes(name: str, below: int | None = None) -> list[int]:
    """Return the processes whose name begins so, the oldest first, of the Ray of one process.

    below: the process that started that Ray, by default this one; services have a Ray of their own.
    """
    raylets = [p for p in psutil.Process(below).children() if p.name() == "raylet"]
    found = []
    for process in (child for raylet in raylets for child in raylet.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith(name):
                found.append((process.create_time(), process.pid))
    return [pid for _, pid in sorted(found)]
