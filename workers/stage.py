"""What one worker hosts, and its place in the pipeline."""

from dataclasses import dataclass
from typing import Literal

from dfa_core import ActivationSpec, LearningRule, TensorSpec
from dfa_core.schedule import head_of
from dfa_core.signals import known_before_forward
from workers.grid import Grid, HeadPlace

BlockKind = Literal["plain", "graphed", "recomputing"]


@dataclass(frozen=True)
class StageContext:
    """What one worker hosts, its place in the pipeline, and what flows through it.

    first, last: the worker hosts layers first..last-1 of the model; none where it hosts a copy of
        the head and nothing else.
    grid: of all workers. number: of this one, from 1.
    rule: how the model learns, the same for all workers; its microbatches are the whole batch's.
    samples: of one microbatch.
    arriving, leaving: the activations that enter the worker's layers and that these send on.
    error: the global error, before it is encoded.
    target: of a sample. output: of the head, for a sample.
    head: where it is.
    kind: how blocks compute.
    readers: processes of each replica that read its share of the data; 0: the coordinator reads.
    """

    first: int
    last: int
    grid: Grid
    number: int
    rule: LearningRule
    samples: int
    arriving: ActivationSpec
    leaving: ActivationSpec
    error: TensorSpec
    target: TensorSpec
    output: TensorSpec
    head: HeadPlace
    kind: BlockKind = "plain"
    readers: int = 0

    @property
    def block(self) -> int:
        """Return k of K, from 1, which is also its rank; above K where the head is alone."""
        return self.grid.seat_of(self.number)

    @property
    def replica(self) -> int:
        """Return r of R, from 0. The batch's microbatch number g goes to replica g mod R."""
        return self.grid.replica_of(self.number)

    @property
    def is_last(self) -> bool:
        """Return whether this is the last block, whose outputs go to the head."""
        return self.block == self.grid.blocks

    @property
    def reads_own_data(self) -> bool:
        """Return whether this block reads its replica's share of each batch itself."""
        return self.readers > 0 and self.block == 1

    @property
    def is_head(self) -> bool:
        """Return whether this worker hosts a copy of the head and nothing else."""
        return self.block > self.grid.blocks

    @property
    def head_number(self) -> int:
        """Return which head of its replica a worker hosts, from 0, if it hosts one."""
        return max(0, self.block - self.grid.blocks - 1)

    @property
    def hosts_head(self) -> bool:
        """Return whether this worker computes head and loss."""
        return self.is_head or (self.head == "block" and self.is_last)

    @property
    def errors_from_workers(self) -> bool:
        """Return whether workers broadcast the errors to other ones, and not the coordinator."""
        in_last_block = self.head == "block" and self.grid.blocks > 1
        return (self.grid.heads > 0 or in_last_block) and not known_before_forward(self.rule)

    @property
    def microbatches(self) -> int:
        """Return the microbatches of a step in each replica."""
        return self.rule.microbatches // self.grid.replicas

    @property
    def heads_in_turn(self) -> list[int]:
        """Return which head of the replica each of its microbatches of a step goes to."""
        return [head_of(m, self.grid.heads) for m in range(self.microbatches)]

    @property
    def next_rank(self) -> int:
        """Return the rank that the activations go to: the next block, or 0 after the last one."""
        return (self.block + 1) % (self.grid.blocks + 1)

    def microbatch(self, of_replica: int) -> int:
        """Return the number in the whole batch of a microbatch of this replica."""
        return of_replica * self.grid.replicas + self.replica
