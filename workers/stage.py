"""What one worker hosts, and its place in the pipeline."""

from dataclasses import dataclass

from dfa_core import ActivationSpec, LearningRule, TensorSpec
from dfa_core.signals import known_before_forward
from workers.grid import HeadPlace


@dataclass(frozen=True)
class StageContext:
    """What one worker hosts, its place in the pipeline, and what flows through it.

    first, last: the worker hosts layers first..last-1 of the model.
    block: k of K, from 1, which is also the worker's rank.
    replica: r of R, from 0. The batch's microbatch number g goes to replica g mod R.
    rule: how the model learns, the same for all workers; its microbatches are the whole batch's.
    samples: of one microbatch.
    arriving, leaving: the activations that enter the block and that it sends on.
    error: the global error, before it is encoded.
    target: of a sample. output: of the head, for a sample.
    head: where it is.
    """

    first: int
    last: int
    block: int
    blocks: int
    replica: int
    replicas: int
    rule: LearningRule
    samples: int
    arriving: ActivationSpec
    leaving: ActivationSpec
    error: TensorSpec
    target: TensorSpec
    output: TensorSpec
    head: HeadPlace

    @property
    def hosts_head(self) -> bool:
        """Return whether this worker computes head and loss too."""
        return self.head == "block" and self.block == self.blocks

    @property
    def errors_from_last_block(self) -> bool:
        """Return whether the last block broadcasts the errors, and not the coordinator."""
        return self.head == "block" and self.blocks > 1 and not known_before_forward(self.rule)

    @property
    def microbatches(self) -> int:
        """Return the microbatches of a step in each replica."""
        return self.rule.microbatches // self.replicas

    @property
    def next_rank(self) -> int:
        """Return the rank that the activations go to: the next block, or 0 after the last one."""
        return (self.block + 1) % (self.blocks + 1)

    def microbatch(self, of_replica: int) -> int:
        """Return the number in the whole batch of a microbatch of this replica."""
        return of_replica * self.replicas + self.replica
