"""Decides which waiting jobs start now: a pure function of the queue and the free resources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.service.jobs.record import Record, workers_of
from coordinator.service.processes.capacity import Capacity, Waiting

_AGEING_S = 600.0


def waiting_job(record: Record) -> Waiting:
    """Return what a job needs of the cluster."""
    job, resources = record.job, record.job.spec.resources
    return Waiting(
        job_id=job.id,
        number=record.number,
        priority=job.priority,
        submitted=job.submitted.ToNanoseconds() / 1e9,
        workers=workers_of(job.spec),
        cpus=resources.cpus,
        gpus=resources.gpus,
        coordinator_gpus=resources.coordinator_gpus,
        owner=job.owner,
    )


@dataclass(frozen=True)
class Quotas:
    """The most workers of each user who has a limit, and those that each user's jobs have now."""

    most: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)

    def obstacle(self, job: Waiting) -> str:
        """Return why a job would exceed its owner's limit; empty if it would not."""
        most, used = self.most.get(job.owner), self.used.get(job.owner, 0)
        if most is None or used + job.workers <= most:
            return ""
        needs = f"needs {job.workers} {'worker' if job.workers == 1 else 'workers'}"
        if job.workers > most:
            return f"{needs}, and {job.owner} may have {most}"
        return f"{needs}, and {job.owner} has {used} of {most}"

    def with_started(self, job: Waiting) -> "Quotas":
        """Return what holds once a job has started."""
        used = {**self.used, job.owner: self.used.get(job.owner, 0) + job.workers}
        return Quotas(self.most, used)


def admit(
    waiting: Sequence[Waiting],
    total: Capacity,
    free: Capacity,
    now: float,
    quotas: Quotas = Quotas(),
) -> tuple[list[str], dict[str, str]]:
    """Return the ids of the jobs to start, in order, and why each of the others waits.

    Jobs of one priority start in the order of submission. A waiting job gains one priority every
    ten minutes, so that every job starts at some time. A job that fits the cluster but not its free
    resources holds back the jobs after it; a job that does not fit the cluster, or its owner's
    limit, holds back none.
    """
    started: list[str] = []
    reasons: dict[str, str] = {}
    held_by = ""
    for job in sorted(waiting, key=lambda j: (-_rank(j, now), j.number)):
        if not total.fits(job):
            reasons[job.job_id] = f"needs {job.needs}, the cluster has {total.text(job)}"
        elif obstacle := quotas.obstacle(job):
            reasons[job.job_id] = obstacle
        elif held_by:
            reasons[job.job_id] = f"after {held_by} in the queue"
        elif not free.fits(job):
            reasons[job.job_id] = f"needs {job.needs}, free now: {free.text(job)}"
            held_by = job.job_id
        else:
            started.append(job.job_id)
            free = free.without(job)
            quotas = quotas.with_started(job)
    return started, reasons


def _rank(job: Waiting, now: float) -> int:
    return job.priority + int(max(0.0, now - job.submitted) / _AGEING_S)
