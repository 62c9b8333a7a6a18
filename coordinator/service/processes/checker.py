"""The child process that checks submitted jobs: it imports torch and runs a task's code.

Each check runs in a fork: no check sees a module that another one's code has imported or changed.
"""

import contextlib
import os
import resource
import signal
import sys
from typing import Any

from coordinator.service.processes.frames import (
    Frame,
    Header,
    answer_one_by_one,
    end_with_parent,
    failure,
    pack,
    read,
)

_MEMORY = 8 << 30  # bytes of address space; a model that is too large must fail here
_CPU_SECONDS = 10  # of one check; on a busy machine they take longer than 10 s of time
_SECONDS = 60
_TOO_LARGE = "the task could not be built within 10 s of CPU and 8 GiB; make it smaller"


class TaskDied(Exception):
    """The process that built a task has ended without an answer."""


def check_apart(header: Header, body: bytes) -> Frame:
    """Check a job in a fork of this process. Raises TaskDied."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            end_with_parent()
            os.close(receiving)
            _answer(sending, header, body)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as stream:
        answer = read(stream)
    os.waitpid(child, 0)
    if answer is None:
        raise TaskDied(_TOO_LARGE)
    return answer


def _answer(sending: int, header: Header, body: bytes) -> None:
    try:
        found = check(header, body)
    except Exception as error:  # noqa: BLE001
        found = failure(error)
    with os.fdopen(sending, "wb") as stream:
        stream.write(pack(*found))


def check(header: Header, body: bytes) -> Frame:
    """Resolve a submitted JobSpec; return it with every field filled, and its number of layers.

    Raises JobError for a job that cannot run as given.
    """
    from errorcast.v1.job_pb2 import JobSpec  # noqa: PLC0415

    from coordinator.job.resolve import resolve  # noqa: PLC0415
    from coordinator.job.spec import only_given  # noqa: PLC0415
    from dfa_core import JobError  # noqa: PLC0415

    settings: dict[str, Any] = only_given(JobSpec.FromString(body))
    sys.path.extend(header["folders"])
    # each of the two ends this process
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
    signal.alarm(_SECONDS)
    try:
        job = resolve(settings.pop("task", ""), settings)
        return {"layers": len(job.model.layers)}, job.spec.SerializeToString()
    except (MemoryError, JobError) as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            raise JobError("options: the task cannot be built within 8 GiB") from error
        raise
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    """Check jobs until the service ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import torch  # noqa: PLC0415

    import coordinator.job.resolve  # noqa: F401, PLC0415  # now, so that the first check is not slow

    torch.set_num_threads(1)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # its imports take a second
    answer_one_by_one(check_apart)
