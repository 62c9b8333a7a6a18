"""The microbatches of a job whose blocks read their inputs: their targets come from there."""

from collections.abc import Iterator, Sequence

from dfa_core import TensorSpec
from dfa_core.loss import WeightedLoss
from dfa_core.microbatch import Microbatch, shares, split
from workers.groups.group import Group
from workers.heads.target_message import rows_message, unpack_rows
from workers.links import Inbox


def read_by_blocks(
    groups: Sequence[Group],
    target: TensorSpec,
    samples: int,
    microbatches: int,
    steps: int,
    ahead: int,
    loss: WeightedLoss,
) -> Iterator[Microbatch]:
    """Yield every microbatch of some steps, without its inputs.

    groups: with the first block of each replica. target: of a sample. samples: of a microbatch.
    microbatches: of a batch. ahead: steps that are under way. loss: gives the shares.
    """
    of_replica = microbatches // len(groups)
    sizes = [samples * of_replica] * steps
    inboxes = [Inbox(group, 1, rows_message(target), sizes, ahead) for group in groups]
    for _ in range(steps):
        each = [split(unpack_rows(inbox.take(), target), of_replica) for inbox in inboxes]
        for inbox in inboxes:
            inbox.release()
        targets = [one for turn in zip(*each, strict=True) for one in turn]
        for one, share in zip(targets, shares(targets, loss), strict=True):
            yield Microbatch(one.new_empty(0), one, share)
