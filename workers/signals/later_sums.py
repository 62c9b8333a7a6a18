"""The sums that hops pass from block to block (dfa_core/block/hopping_block.py)."""

from torch import Tensor

from workers.links import Inbox, Outbox
from workers.memberships import Memberships
from workers.stage import StageContext

_AT_ONCE = 2


class PassedSums:
    """The sums of a segment's hops: from the next block, and to the block before."""

    def __init__(self, stage: StageContext, groups: Memberships, steps: int) -> None:
        """steps: of the segment."""
        group, hops = groups.of_blocks, stage.rule.feedback.hops
        self._from: Inbox | None = None
        self._to: Outbox | None = None
        if not stage.is_last:
            sizes = [stage.samples] * (steps * stage.microbatches * hops)
            self._from = Inbox(group, stage.block + 1, stage.error, sizes, _AT_ONCE)
        if stage.block > 1:
            self._to = Outbox(group, stage.block - 1)

    def take(self) -> Tensor | None:
        """Wait for the next sum; None at the last block."""
        if self._from is None:
            return None
        total = self._from.take()
        self._from.release()
        return total

    def give(self, total: Tensor | None) -> None:
        """Send the next sum to the block before."""
        if self._to is not None and total is not None:
            self._to.send(total)
            self._to.keep(_AT_ONCE)

    def finish(self) -> None:
        """Wait until the block before has all."""
        if self._to is not None:
            self._to.finish()
