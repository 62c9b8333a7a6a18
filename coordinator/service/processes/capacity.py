"""The resources of a cluster, and what a waiting job needs of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A queued job and the resources it needs.

    submitted: seconds since the epoch. cpus, gpus: of each worker. owner: the user's name.
    """

    job_id: str
    number: int
    priority: int
    submitted: float
    workers: int
    cpus: float
    gpus: float
    coordinator_gpus: float = 0.0
    owner: str = ""

    @property
    def all_gpus(self) -> float:
        """Return the GPUs of all workers and of the coordinator."""
        return self.workers * self.gpus + self.coordinator_gpus

    @property
    def needs(self) -> str:
        """Return the needs as text: `4 workers x 1 CPU`."""
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        word = "worker" if self.workers == 1 else "workers"
        own = self.coordinator_gpus
        more = f", and {own:g} GPU for the coordinator" if own else ""
        return f"{self.workers} {word} x {self.cpus:g} CPU{gpus}{more}"


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs: all of a cluster, or those that are free."""

    cpus: float
    gpus: float

    def fits(self, job: Waiting) -> bool:
        """Return whether there is room for all workers of a job."""
        return self.cpus >= job.workers * job.cpus and self.gpus >= job.all_gpus

    def without(self, job: Waiting) -> "Capacity":
        """Return what is left once a job has started."""
        return Capacity(self.cpus - job.workers * job.cpus, self.gpus - job.all_gpus)

    def text(self, job: Waiting) -> str:
        """Return the resources of the kinds that a job needs: `4 CPU and 1 GPU`."""
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if job.all_gpus else "")
