"""How many workers a job has, and what they host."""

from dataclasses import dataclass

from workers.grid import HeadPlace


@dataclass(frozen=True)
class Shape:
    """K blocks of R replicas, and where the head is: with H workers of its own in each replica."""

    blocks: int
    replicas: int = 1
    head: HeadPlace = "coordinator"
    heads: int = 0

    @property
    def in_replica(self) -> int:
        """Return the workers of each replica."""
        return self.blocks + self.heads

    @property
    def workers(self) -> int:
        """Return the number of workers; a head in the coordinator is one more."""
        return self.in_replica * self.replicas + (self.head == "coordinator")

    @property
    def copies_of_head(self) -> int:
        """Return how many copies of the head there are, which sum their gradients."""
        return 1 if self.head == "coordinator" else max(1, self.heads) * self.replicas
