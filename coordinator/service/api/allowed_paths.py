"""Checks that the paths in a job are in the folders that the operator has opened."""

from collections.abc import Sequence
from pathlib import Path

from errorcast.v1.job_pb2 import JobSpec

from coordinator.job.path_options import PATH_OPTIONS
from coordinator.service.errors import NOT_ALLOWED, ServiceError


def check_allowed_paths(
    spec: JobSpec, code: Sequence[Path], data: Sequence[Path], uploads: bool = False
) -> None:
    """Make a spec's paths absolute, with symlinks resolved, and check where they lead.

    A task file's code runs in the file's folder, unless the spec names another one.

    The task of uploaded code is a file of it, and is looked for there alone.

    uploads: whether the service takes code.

    Raises ServiceError for a task file outside the `code` folders, for data, first weights and
    options that name files outside the `data` folders, for a working folder outside both, and for
    any checkpoint folder.
    """
    path, colon, function = spec.task.rpartition(":")
    if spec.code:
        pass
    elif colon or "/" in spec.task or spec.task.endswith(".py"):
        file = _inside(path if colon else spec.task, code)
        if file is None:
            allowed = "in a folder that --allow-code opens" if code else "installed (--allow-code)"
            sent = "is no file where you submit it" if uploads else "was not sent (--allow-uploads)"
            raise ServiceError(NOT_ALLOWED, f"task: {spec.task} is not {allowed}, and {sent}")
        spec.task = f"{file}:{function}"
        spec.working_dir = spec.working_dir or str(file.parent)
    if spec.checkpoint.path:
        raise ServiceError(
            NOT_ALLOWED, "checkpoint.path: the service chooses where checkpoints are; remove it"
        )
    if spec.working_dir and not spec.code:
        folder = _inside(spec.working_dir, [*code, *data])
        if folder is None:
            raise ServiceError(
                NOT_ALLOWED,
                f"working_dir: {spec.working_dir} is in no folder of --allow-code or --data-root; "
                f"remove it, and the task runs in its file's folder",
            )
        spec.working_dir = str(folder)
    if spec.data_dir:
        spec.data_dir = _data("data_dir", spec.data_dir, data)
    if spec.init:
        spec.init = _data("init", spec.init, data)
    if not colon:
        _check_options(spec, data)


def _check_options(spec: JobSpec, data: Sequence[Path]) -> None:
    """Confine the options of an installed task that name files, and those that look like paths."""
    for name in list(spec.options):
        value, is_path = spec.options[name], name in PATH_OPTIONS.get(spec.task, ())
        if isinstance(value, str) and (is_path or "/" in value or value.startswith(("~", ".."))):
            found = _data(f"options.{name}", value, data)
            if is_path:
                spec.options[name] = found


def _data(field: str, path: str, data: Sequence[Path]) -> str:
    """Return a path in the data folders, absolute; raise ServiceError for another."""
    found = _inside(path, data)
    if found is None:
        raise ServiceError(NOT_ALLOWED, f"{field}: {path} is in no folder of --data-root")
    return str(found)


def _inside(path: str, roots: Sequence[Path]) -> Path | None:
    """Return a path resolved in the first root that contains it, or None."""
    for root in roots:
        try:
            resolved = (root / path).resolve()
            if resolved.is_relative_to(root.resolve()):
                return resolved
        except (OSError, ValueError, RuntimeError):  # a NUL character, or a loop of links
            continue
    return None
