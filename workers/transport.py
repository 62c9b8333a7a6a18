"""How tensors travel between ranks: chosen by where they compute, unless the job says it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch._C._distributed_c10d import Store

from dfa_core import JobError
from workers.gloo_group import GlooGroup
from workers.gpu import Gpu
from workers.group import Group
from workers.nccl_group import NcclGroup, RankPair

Transport = Literal["gloo", "nccl"]


@dataclass(frozen=True)
class RankContext:
    """Where a rank is: its node's address, its device; and its longest wait for one message."""

    host: str
    device: torch.device
    timeout_s: float


def choose(asked: Literal["auto"] | Transport, gpus: Sequence[Gpu | None]) -> Transport:
    """Return NCCL where every rank has a GPU of its own, else gloo.

    gpus: of all ranks, the coordinator's first.

    Raises JobError where NCCL is asked for and cannot be.
    """
    hindered = _hindered(gpus)
    if asked == "nccl" and hindered:
        raise JobError(f"resources.transport: nccl needs a GPU for each rank, and {hindered}")
    return "nccl" if asked != "gloo" and not hindered else "gloo"


def _hindered(gpus: Sequence[Gpu | None]) -> str:
    """Return why NCCL cannot be, or nothing."""
    if gpus[0] is None:
        return "the coordinator has none (resources.coordinator_gpus=1 gives it one)"
    without = sum(gpu is None for gpu in gpus)
    if without:
        return f"{without} of {len(gpus) - 1} worker(s) have none (resources.gpus=1)"
    sharing = Counter(gpu.identity for gpu in gpus if gpu is not None)
    identity, ranks = sharing.most_common(1)[0]
    return f"{ranks} ranks share {identity}" if ranks > 1 else ""


def describe_links(transport: Transport, gpus: Sequence[Gpu | None], host: str) -> str:
    """Return for people how tensors travel, and where ranks meet."""
    if transport == "nccl":
        return f"NCCL between GPUs; the ranks meet at {host}"
    staged = ", through pinned memory where ranks are on a GPU" if any(gpus) else ""
    return f"gloo{staged}; the ranks meet at {host}"


def join(
    transport: Transport,
    at: RankContext,
    rank: int,
    world: int,
    store: Store,
    links: Sequence[RankPair] = (),
) -> Group:
    """Join the ranks that meet in the store, as rank `rank` of `world`.

    links: along which they send; those that only sum and broadcast need none.

    Raises GroupLeft when the others do not come.
    """
    if transport == "nccl":
        return NcclGroup(store, rank, world, links, at.timeout_s, at.device)
    return GlooGroup(store, rank, world, at.host, at.timeout_s, at.device)
