"""What one worker hosts, and its place in the pipeline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dfa_core import ActivationSpec, LearningRule, TensorSpec
from dfa_core.exact_schedule import ExactSchedule, exact_actions, waiting_at
from dfa_core.schedule import Action, block_actions, forwards_only, head_of
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
    schedule: of backpropagation. blocks_learn: whether any layer of the model does.
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
    schedule: ExactSchedule = "1f1b"
    blocks_learn: bool = True

    @property
    def block_kind(self) -> str:
        """Return how this worker's block computes: as the rule asks, or as `kind` does."""
        if self.rule.method == "bp":
            return "exact"
        return "hopping" if self.rule.feedback.hops else self.kind

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
    def signals_from_workers(self) -> bool:
        """Return whether workers send errors or gradients to other ones, as a group of theirs."""
        if not self.blocks_learn or known_before_forward(self.rule):
            return False
        broadcast = self.head == "block" and self.grid.blocks > 1 and self.rule.method != "bp"
        return self.grid.heads > 0 or broadcast

    @property
    def microbatches(self) -> int:
        """Return the microbatches of a step in each replica."""
        return self.rule.microbatches // self.grid.replicas

    @property
    def heads_in_turn(self) -> list[int]:
        """Return which head of the replica each of its microbatches of a step goes to."""
        return [head_of(m, self.grid.heads) for m in range(self.microbatches)]

    @property
    def gradients_from(self) -> int | None:
        """Return the rank that gradients of the outputs come from; None: by a broadcast.

        One block gets its inputs from rank 0, too: these two must not mix.
        """
        return None if self.grid.blocks == 1 else self.next_rank

    @property
    def next_rank(self) -> int:
        """Return the rank that the activations go to: the next block, or 0 after the last one."""
        return (self.block + 1) % (self.grid.blocks + 1)

    def microbatch(self, of_replica: int) -> int:
        """Return the number in the whole batch of a microbatch of this replica."""
        return of_replica * self.grid.replicas + self.replica

    def actions(self, steps: range, waiting: int) -> Iterator[Action]:
        """Yield what the block does in these steps, in order.

        waiting: microbatches that may wait for their error, or at the first block for gradients.
        """
        rule, blocks, first, last = self.rule, self.grid.blocks, steps.start, steps.stop
        if not self.blocks_learn:
            return forwards_only(self.microbatches, first, last)
        if rule.method == "bp":
            return exact_actions(
                self.schedule,
                self.block,
                blocks,
                self.microbatches,
                first,
                last,
                rule.staleness,
                waiting,
                self.head != "block",
            )
        return block_actions(blocks, self.microbatches, first, last, rule.staleness, waiting)

    def waiting_here(self, waiting: int) -> int:
        """Return how many microbatches may wait at this block. waiting: as actions() has it."""
        return waiting_at(self.block, waiting) if self.rule.method == "bp" else waiting
