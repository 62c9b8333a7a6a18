"""R replicas of K blocks: how the workers of a job are numbered."""

from dataclasses import dataclass
from typing import Literal

HeadPlace = Literal["coordinator", "block"]  # block: in the worker of the last one


@dataclass(frozen=True)
class Grid:
    """The R x K workers, numbered from 1: replica by replica, block by block within a replica."""

    blocks: int
    replicas: int = 1

    def __len__(self) -> int:
        return self.blocks * self.replicas

    def replica_of(self, worker: int) -> int:
        """Return the replica, from 0, that a worker belongs to."""
        return (worker - 1) // self.blocks

    def block_of(self, worker: int) -> int:
        """Return the block, from 1, that a worker hosts."""
        return (worker - 1) % self.blocks + 1

    def label(self, worker: int) -> str:
        """Return `block 2`, or `block 2 of replica 1` where there are several replicas."""
        block = f"block {self.block_of(worker)}"
        return block if self.replicas == 1 else f"{block} of replica {self.replica_of(worker) + 1}"
