"""The groups that a worker is in, and how it joins them."""

from dataclasses import dataclass

from workers.groups.group import (
    Group,
    block_store,
    error_store,
    head_store,
    open_store,
    replica_store,
)
from workers.groups.nccl_group import ring
from workers.groups.transport import RankContext, Rendezvous, join
from workers.stage import StageContext


@dataclass(frozen=True)
class Memberships:
    """The groups of one worker.

    blocks: the coordinator and the blocks of this replica, by their numbers.
    errors: in which this replica's blocks get the error: rank 0 broadcasts it.
    head: the coordinator (rank 0) and this worker (rank 1), if it hosts the head.
    replicas: the replicas of this block, if there are several.
    """

    blocks: Group
    errors: Group
    head: Group | None = None
    replicas: Group | None = None

    @property
    def all(self) -> list[Group]:
        """Return each group once."""
        own = [self.errors] if self.errors is not self.blocks else []
        return [self.blocks, *own, *filter(None, (self.head, self.replicas))]


def join_all(stage: StageContext, rendezvous: Rendezvous, context: RankContext) -> Memberships:
    """Join the groups of a stage's worker.

    Raises GroupLeft when it is to leave meanwhile, or another rank is gone.
    """
    store = open_store(rendezvous.host, rendezvous.port, rendezvous.world, None)
    transport, k, r = rendezvous.transport, stage.block, stage.replica
    world = stage.blocks + 1
    blocks = join(transport, context, k, world, replica_store(store, r), ring(world))
    errors, head, replicas = blocks, None, None
    if stage.errors_from_last_block:
        errors = join(transport, context, k % stage.blocks, stage.blocks, error_store(store, r))
    if stage.hosts_head:
        head = join(transport, context, 1, 2, head_store(store, r), ring(2))
    if stage.replicas > 1:
        replicas = join(transport, context, r, stage.replicas, block_store(store, k))
    return Memberships(blocks, errors, head, replicas)
