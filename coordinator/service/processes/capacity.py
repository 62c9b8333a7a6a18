"""What a cluster has free, and what a waiting job asks for."""

from dataclasses import dataclass


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
