"""R replicas of K blocks and H heads: how the workers of a job are numbered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# block: in the worker of the last one; workers: in H workers of a replica that host nothing else
HeadPlace = Literal["coordinator", "block", "workers"]
AskedPlace = Literal["auto", "coordinator", "block"]  # of a job without workers for the head alone


@dataclass(frozen=True)
class Grid:
    """The R x (K + H) workers, numbered from 1: replica by replica, its blocks and then its heads.

    heads: workers of each replica that host a copy of the head and nothing else. The replica's
    microbatch m goes to its head m mod H.
    """

    blocks: int
    replicas: int = 1
    heads: int = 0

    def __len__(self) -> int:
        return self.in_replica * self.replicas

    @property
    def in_replica(self) -> int:
        """Return how many workers a replica has."""
        return self.blocks + self.heads

    def replica_of(self, worker: int) -> int:
        """Return the replica, from 0, that a worker belongs to."""
        return (worker - 1) // self.in_replica

    def seat_of(self, worker: int) -> int:
        """Return a worker's place in its replica: block 1..K, then K + 1 for the first head."""
        return (worker - 1) % self.in_replica + 1

    def state_of(self, worker: int) -> int:
        """Return which worker of the first replica has the same state: its block, or its head 1."""
        return min(self.seat_of(worker), self.blocks + 1)

    def share(self, chunks: Sequence[int], worker: int) -> Sequence[int]:
        """Return which of the chunks of an evaluation pass through a worker.

        They go to the replicas in turn, and within a replica to its heads in turn.
        """
        of_replica = chunks[self.replica_of(worker) :: self.replicas]
        head = self.seat_of(worker) - self.blocks - 1
        return of_replica if head < 0 else of_replica[head :: self.heads]

    def label(self, worker: int) -> str:
        """Return `block 2` or `head 1`; `block 2 of replica 1` where there are several replicas."""
        seat = self.seat_of(worker)
        name = f"block {seat}" if seat <= self.blocks else f"head {seat - self.blocks}"
        return name if self.replicas == 1 else f"{name} of replica {self.replica_of(worker) + 1}"
