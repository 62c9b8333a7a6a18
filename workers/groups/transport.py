"""How tensors travel between ranks: chosen by where they compute, unless the job says how."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch._C._distributed_c10d import Store

from dfa_core import JobError
from workers.gpu import Gpu
from workers.groups.gloo_group import GlooGroup
from workers.groups.group import Group, Left
from workers.groups.nccl_group import NcclGroup, RankPair

Transport = Literal["gloo", "nccl"]


@dataclass(frozen=True)
class RankContext:
    """A rank's address and device, and whether it is to leave the group that it is joining."""

    host: str
    device: torch.device
    left: Left = lambda: False


@dataclass(frozen=True)
class Rendezvous:
    """Where the ranks of one group meet: rank 0's store.

    transport: how tensors travel in the group.
    generation: of the group. Requests from another generation are refused.
    """

    host: str
    port: int
    world: int
    transport: Transport = "gloo"
    generation: int = 0


def choose(asked: Literal["auto"] | Transport, gpus: Sequence[Gpu | None]) -> Transport:
    """Return NCCL where every rank has a GPU of its own, otherwise gloo.

    gpus: of all ranks, the coordinator's first.

    Raises JobError where the job asks for NCCL and the ranks cannot use it.
    """
    obstacle = _obstacle_to_nccl(gpus)
    if asked == "nccl" and obstacle:
        raise JobError(f"resources.transport: nccl needs a GPU for each rank, and {obstacle}")
    return "nccl" if asked != "gloo" and not obstacle else "gloo"


def _obstacle_to_nccl(gpus: Sequence[Gpu | None]) -> str:
    """Return why the ranks cannot use NCCL, or an empty text if they can."""
    if gpus[0] is None:
        return "the coordinator has none (resources.coordinator_gpus=1 gives it one)"
    without = sum(gpu is None for gpu in gpus)
    if without:
        return f"{without} of {len(gpus) - 1} worker(s) have none (resources.gpus=1)"
    sharing = Counter(gpu.identity for gpu in gpus if gpu is not None)
    identity, ranks = sharing.most_common(1)[0]
    return f"{ranks} ranks share {identity}" if ranks > 1 else ""


def describe_links(transport: Transport, gpus: Sequence[Gpu | None], host: str) -> str:
    """Return a text that says how tensors travel and where ranks meet."""
    if transport == "nccl":
        return f"NCCL between GPUs; the ranks meet at {host}"
    staged = ", through pinned memory where ranks are on a GPU" if any(gpus) else ""
    return f"gloo{staged}; the ranks meet at {host}"


def join(
    transport: Transport,
    context: RankContext,
    rank: int,
    world: int,
    store: Store,
    links: Sequence[RankPair] = (),
) -> Group:
    """Join the ranks that meet in the store, as rank `rank` of `world`.

    links: pairs of ranks that send to each other; sums and broadcasts need none.

    Raises GroupLeft when it is to leave, or another rank is gone.
    """
    if transport == "nccl":
        return NcclGroup(store, rank, world, links, context.device, left=context.left)
    return GlooGroup(store, rank, world, context.host, context.device, context.left)
