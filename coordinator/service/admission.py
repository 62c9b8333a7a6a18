"""Which waiting jobs start now: a pure function of what waits and what is free."""

from collections.abc import Sequence
from dataclasses import dataclass

_AGEING_S = 600.0


@dataclass(frozen=True)
class Waiting:
    """A queued job and what it asks for; submitted in seconds of the epoch."""

    job_id: str
    number: int
    priority: int
    submitted: float
    workers: int
    cpus: float
    gpus: float
    coordinator_gpus: float = 0.0

    @property
    def all_gpus(self) -> float:
        """Return the GPUs of all workers and of the coordinator."""
        return self.workers * self.gpus + self.coordinator_gpus

    @property
    def needs(self) -> str:
        """Return `4 workers x 1 CPU` for people."""
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        word = "worker" if self.workers == 1 else "workers"
        own = self.coordinator_gpus
        more = f", and {own:g} GPU for the coordinator" if own else ""
        return f"{self.workers} {word} x {self.cpus:g} CPU{gpus}{more}"


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of the whole cluster, or those that are free."""

    cpus: float
    gpus: float

    def fits(self, job: Waiting) -> bool:
        """Return whether all workers of a job fit in."""
        return self.cpus >= job.workers * job.cpus and self.gpus >= job.all_gpus

    def without(self, job: Waiting) -> "Capacity":
        """Return what a started job leaves."""
        return Capacity(self.cpus - job.workers * job.cpus, self.gpus - job.all_gpus)


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
