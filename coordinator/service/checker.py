"""The child process that checks jobs: it alone imports torch and runs a task's own code."""

import resource
import signal
from typing import Any

from coordinator.service.frames import Header, answer_one_by_one

_MEMORY = 8 << 30  # bytes of address space, against a model that nobody could hold
_SECONDS = 10  # of one check


def check(_: Header, body: bytes) -> tuple[Header, bytes]:
    """Resolve a submitted JobSpec; return it with every field filled, and how many layers it has.

    Raises JobError for a job that cannot run as given.
    """
    from errorcast.v1.job_pb2 import JobSpec  # noqa: PLC0415

    from coordinator.resolve import resolve  # noqa: PLC0415
    from coordinator.spec import only_given  # noqa: PLC0415
    from dfa_core import JobError  # noqa: PLC0415

    settings: dict[str, Any] = only_given(JobSpec.FromString(body))
    signal.alarm(_SECONDS)  # ends this process; the service starts another
    try:
        job = resolve(settings.pop("task", ""), settings)
        return {"layers": len(job.model.layers)}, job.spec.SerializeToString()
    except (MemoryError, JobError) as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            raise JobError("options: the task cannot be built within 8 GiB") from error
        raise
    finally:
        signal.alarm(0)


def main() -> None:
    """Answer checks."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import torch  # noqa: PLC0415

    import coordinator.resolve  # noqa: F401, PLC0415  # now, and not in the first check

    torch.set_num_threads(1)
    answer_one_by_one(check)
