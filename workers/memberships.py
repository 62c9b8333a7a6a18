"""The groups that a worker is in, and how it joins them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch._C._distributed_c10d import Store

from workers.groups.group import (
    Group,
    copies_store,
    data_store,
    error_store,
    head_store,
    open_store,
    replica_store,
)
from workers.groups.nccl_group import RankPair, ring
from workers.groups.transport import RankContext, Rendezvous, join
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
    data: the coordinator (rank 0) and this worker (rank 1), if it reads its replica's data.
    """

    blocks: Group | None
    errors: tuple[Group, ...] = ()
    head: Group | None = None
    copies: Group | None = None
    data: Group | None = None

    @property
    def of_blocks(self) -> Group:
        """Return the group of the blocks, of a worker that is in it."""
        return _joined(self.blocks, "with the other blocks")

    @property
    def of_head(self) -> Group:
        """Return the group with rank 0 of a worker that hosts the head."""
        return _joined(self.head, "with rank 0 for the head")

    @property
    def of_data(self) -> Group:
        """Return the group with rank 0 of a worker that reads its replica's data."""
        return _joined(self.data, "with rank 0 for the data")

    @property
    def all(self) -> list[Group]:
        """Return each group once."""
        return [*self.errors, *filter(None, (self.blocks, self.head, self.copies, self.data))]


def _joined(group: Group | None, which: str) -> Group:
    if group is None:
        raise ValueError(f"this worker has joined no group {which}")
    return group


def join_all(stage: StageContext, rendezvous: Rendezvous, context: RankContext) -> Memberships:
    """Join the groups of a stage's worker.

    Raises GroupLeft when it is to leave meanwhile, or another rank is gone; it then is in none.
    """
    joining = _Joining(stage, rendezvous, context)
    try:
        return joining.all()
    except BaseException:
        for group in joining.joined:
            group.close()
        raise


class _Joining:
    """A worker that joins its groups; joined: those that it is in by now."""

    def __init__(self, stage: StageContext, rendezvous: Rendezvous, context: RankContext) -> None:
        self._stage, self._transport, self._context = stage, rendezvous.transport, context
        self._store = open_store(rendezvous.host, rendezvous.port, rendezvous.world, None)
        self.joined: list[Group] = []

    def all(self) -> Memberships:
        """Join all, in the order in which the other ranks join theirs."""
        stage, grid, store, r = self._stage, self._stage.grid, self._store, self._stage.replica
        blocks, head = None, None
        if not stage.is_head:
            world = grid.blocks + 1
            links = ring(world, both_ways=stage.rule.passes_back)
            blocks = self._join(stage.block, world, replica_store(store, r), links)
        errors = self._errors()
        if stage.hosts_head:
            head = self._join(1, 2, head_store(store, r, stage.head_number), ring(2))
        data = None
        if stage.reads_own_data:
            data = self._join(1, 2, data_store(store, r), ring(2))
        copies = grid.replicas * (grid.heads if stage.is_head else 1)
        if copies == 1:
            return Memberships(blocks, errors, head, data=data)
        rank = r * grid.heads + stage.head_number if stage.is_head else r
        seat = grid.blocks + 1 if stage.is_head else stage.block
        of_copies = self._join(rank, copies, copies_store(store, seat))
        return Memberships(blocks, errors, head, of_copies, data)

    def _errors(self) -> tuple[Group, ...]:
        """Join a group with each head of the replica, or a head's own, or with the last block."""
        stage, r = self._stage, self._stage.replica
        blocks, heads = stage.grid.blocks, stage.grid.heads
        if not heads:
            if not stage.signals_from_workers:
                return ()
            return (self._join(stage.block % blocks, blocks, error_store(self._store, r, 0)),)
        rank = 0 if stage.is_head else stage.block
        links = [(blocks, 0), *([(0, blocks)] if stage.rule.method == "bp" else [])]
        own = [stage.head_number] if stage.is_head else range(heads)
        stores = [error_store(self._store, r, h) for h in own]
        return tuple(self._join(rank, blocks + 1, of_head, links) for of_head in stores)

    def _join(self, rank: int, world: int, store: Store, links: Sequence[RankPair] = ()) -> Group:
        group = join(self._transport, self._context, rank, world, store, links)
        self.joined.append(group)
        return group
