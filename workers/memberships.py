"""The groups that a worker is in, and how it joins them."""

from dataclasses import dataclass

from torch._C._distributed_c10d import Store

from workers.groups.group import (
    Group,
    copies_store,
    error_store,
    head_store,
    open_store,
    replica_store,
)
from workers.groups.nccl_group import ring
from workers.groups.transport import RankContext, Rendezvous, Transport, join
from workers.stage import StageContext


@dataclass(frozen=True)
class Memberships:
    """The groups of one worker.

    blocks: the coordinator (rank 0) and the blocks of this replica, by their numbers. A worker that
        hosts the head alone is not in it.
    errors: one for each worker of this replica that broadcasts errors: it is rank 0. A head's has
        all blocks, by their numbers, and gets its inputs there; the last block's has the others.
    head: the coordinator (rank 0) and this worker (rank 1), if it hosts the head.
    copies: the workers of all replicas that host the same layers, or the head and nothing else, if
        there are several.
    """

    blocks: Group | None
    errors: tuple[Group, ...] = ()
    head: Group | None = None
    copies: Group | None = None

    @property
    def all(self) -> list[Group]:
        """Return each group once."""
        return [*self.errors, *filter(None, (self.blocks, self.head, self.copies))]


def join_all(stage: StageContext, rendezvous: Rendezvous, context: RankContext) -> Memberships:
    """Join the groups of a stage's worker.

    Raises GroupLeft when it is to leave meanwhile, or another rank is gone.
    """
    store = open_store(rendezvous.host, rendezvous.port, rendezvous.world, None)
    transport, grid, r = rendezvous.transport, stage.grid, stage.replica
    blocks, head = None, None
    if not stage.is_head:
        world, of_replica = grid.blocks + 1, replica_store(store, r)
        blocks = join(transport, context, stage.block, world, of_replica, ring(world))
    errors = _join_errors(stage, transport, context, store)
    if stage.hosts_head:
        with_rank0 = head_store(store, r, stage.head_number)
        head = join(transport, context, 1, 2, with_rank0, ring(2))
    copies = grid.replicas * (grid.heads if stage.is_head else 1)
    if copies == 1:
        return Memberships(blocks, errors, head)
    rank = r * grid.heads + stage.head_number if stage.is_head else r
    seat = grid.blocks + 1 if stage.is_head else stage.block
    same = copies_store(store, seat)
    return Memberships(blocks, errors, head, join(transport, context, rank, copies, same))


def _join_errors(
    stage: StageContext, transport: Transport, context: RankContext, store: Store
) -> tuple[Group, ...]:
    """Join a group with each head of the replica, or a head's own; or one with the last block."""
    blocks, r = stage.grid.blocks, stage.replica
    if not stage.grid.heads:
        if not stage.sources_of_errors:
            return ()
        of_last = error_store(store, r, 0)
        return (join(transport, context, stage.block % blocks, blocks, of_last),)
    rank, outputs = (0 if stage.is_head else stage.block), [(blocks, 0)]
    own = [stage.head_number] if stage.is_head else range(stage.grid.heads)
    return tuple(
        join(transport, context, rank, blocks + 1, error_store(store, r, h), outputs) for h in own
    )
