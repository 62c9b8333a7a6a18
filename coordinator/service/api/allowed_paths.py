"""Keeps the paths that a job names inside the folders that the operator opened."""

from collections.abc import Sequence
from pathlib import Path

from errorcast.v1.job_pb2 import JobSpec

from coordinator.service.errors import NOT_ALLOWED, ServiceError


def check_allowed_paths(spec: JobSpec, code: Sequence[Path], data: Sequence[Path]) -> None:
    """Make a spec's paths absolute, symlinks followed, and check where they lead.

    Raises Fault for a task file outside the code folders, or data outside the data folders, or
    a place of its own for checkpoints.
    """
    path, colon, function = spec.task.rpartition(":")
    if colon or "/" in spec.task or spec.task.endswith(".py"):
        found = _inside(path if colon else spec.task, code)
        if found is None:
            opened = "in a folder that --allow-code opens" if code else "installed (--allow-code)"
            raise ServiceError(NOT_ALLOWED, f"task: {spec.task} is not {opened}")
        spec.task = f"{found}:{function}"
    if spec.checkpoint.path:
        raise ServiceError(
            NOT_ALLOWED, "checkpoint.path: a service keeps its jobs' checkpoints itself"
        )
    if spec.data_dir:
        there = _inside(spec.data_dir, data)
        if there is None:
            raise ServiceError(
                NOT_ALLOWED, f"data_dir: {spec.data_dir} is in no folder of --data-root"
            )
        spec.data_dir = str(there)


def _inside(path: str, roots: Sequence[Path]) -> Path | None:
    for root in roots:
        try:
            real = (root / path).resolve()
            if real.is_relative_to(root.resolve()):
                return real
        except (OSError, ValueError, RuntimeError):  # a NUL in it, a loop of links
            continue
    return None
