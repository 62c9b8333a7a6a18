"""Which waiting jobs start now: a pure function of what waits and what is free."""

from collections.abc import Sequence

from coordinator.service.processes.capacity import Capacity, Waiting

_AGEING_S = 600.0


def admit(
    waiting: Sequence[Waiting], total: Capacity, free: Capacity, now: float
) -> tuple[list[str], dict[str, str]]:
    """Return the jobs to start, in order, and for each other one the reason that it waits.

    First come first served within a priority; a job that waits gains one priority each ten minutes,
    so that none starves. A job that fits the cluster but not what is free holds back those behind
    it; one that the whole cluster cannot hold does not.
    """
    started: list[str] = []
    reasons: dict[str, str] = {}
    held_by = ""
    for job in sorted(waiting, key=lambda j: (-_rank(j, now), j.number)):
        if not total.fits(job):
            has = f"{total.cpus:g} CPU" + (f" and {total.gpus:g} GPU" if job.all_gpus else "")
            reasons[job.job_id] = f"needs {job.needs}, the cluster has {has}"
        elif held_by:
            reasons[job.job_id] = f"behind {held_by} in the queue"
        elif not free.fits(job):
            is_free = f"{free.cpus:g} CPU" + (f" and {free.gpus:g} GPU" if job.all_gpus else "")
            reasons[job.job_id] = f"needs {job.needs}, free now: {is_free}"
            held_by = job.job_id
        else:
            started.append(job.job_id)
            free = free.without(job)
    return started, reasons


def _rank(job: Waiting, now: float) -> int:
    return job.priority + int(max(0.0, now - job.submitted) / _AGEING_S)
