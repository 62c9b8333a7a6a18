"""The child process that checks jobs: it alone imports torch and runs a task's own code."""

import resource
import signal
from typing import Any

from coordinator.service.processes.frames import Header, answer_one_by_one

_MEMORY = 8 << 30  # bytes of address space, against a model that nobody could hold
_CPU_SECONDS = 10  # of one check; a busy machine may take longer over them
_SECONDS = 60


def check(_: Header, body: bytes) -> tuple[Header, bytes]:
    """Resolve a submitted JobSpec; return it with every field filled, and how many layers it has.

    Raises JobError for a job that cannot run as given.
    """
    from errorcast.v1.job_pb2 import JobSpec  # noqa: PLC0415

    from coordinator.job.resolve import resolve  # noqa: PLC0415
    from coordinator.job.spec import only_given  # noqa: PLC0415
    from dfa_core import JobError  # noqa: PLC0415

    settings: dict[str, Any] = only_given(JobSpec.FromString(body))
    # either ends this process, and the service starts another
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
    """Answer checks."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import torch  # noqa: PLC0415

    import coordinator.job.resolve  # noqa: F401, PLC0415  # now, and not in the first check

    torch.set_num_threads(1)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # imports a second's worth
    answer_one_by_one(check)
