"""A group over NCCL, where every rank has a GPU of its own: messages stay on the GPUs.

Each link between neighbours has a communicator of its own, and the broadcast has another, so that
no message waits for one of another link. A wait blocks the computing stream, not the host.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store

from workers.groups.group import JOIN, UNBOUNDED, GroupLeft, Left, NewTensor, await_all, first_line

RankPair = tuple[int, int]  # from a rank to a rank
Backend = Any  # torch's, of any library: they have one interface
MakeBackend = Callable[[Store, int, int], Backend]  # of (store, rank, world)


def nccl(store: Store, rank: int, world: int) -> Backend:
    """Return torch's NCCL backend, which CPU-only builds lack."""
    kind: Any = torch.distributed.ProcessGroupNCCL
    options = kind.Options()
    options._timeout = JOIN  # to connect; the others are here by then
    return kind(store, rank, world, options)


def ring(world: int, both_ways: bool = False) -> list[RankPair]:
    """Return the links of the activations: from the coordinator through the blocks and back.

    both_ways: gradients travel the other way round.
    """
    onwards = [(rank, (rank + 1) % world) for rank in range(world)]
    return onwards + [(b, a) for a, b in onwards if both_ways and (b, a) not in onwards]


class NcclGroup:
    """A group of this rank. It never `waits`: the GPU waits, and not the host."""

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        links: Sequence[RankPair],
        device: torch.device,
        make: MakeBackend = nccl,
        left: Left = lambda: False,
    ) -> None:
        """Join; return when all ranks have joined.

        links: pairs of ranks that send to each other; broadcast and all_reduce need none.
        device: this rank's GPU.
        left: whether to stop waiting for the others to join.

        Raises GroupLeft when it is to leave, or another rank is gone.
        """
        self.rank, self.world = rank, world
        self.bytes_sent = 0
        self.wait_s = 0.0
        self.broadcasts = 2
        self.waits = False
        self._device, self._store, self._make = device, store, make
        self._links: dict[RankPair, Backend] = {}
        try:
            await_all(store, rank, world, left)
            for link in links:  # in the same order on all ranks, or they would wait for each other
                if rank in link:
                    self._links[link] = self._connect(f"{link[0]}-{link[1]}", link.index(rank), 2)
            self._all = self._connect("all", rank, world)
        except GroupLeft:
            raise
        except RuntimeError as error:
            raise GroupLeft(f"rank {rank} could not join the group: {first_line(error)}") from error

    def _connect(self, name: str, rank: int, world: int) -> Backend:
        """Return a connected communicator.

        NCCL would otherwise connect it at the first message, and could then wait for a peer that
        waits for another message of this rank.
        """
        made = self._make(PrefixStore(name, self._store), rank, world)
        made.allreduce([torch.zeros(1, device=self._device)]).wait()
        made._set_default_timeout(UNBOUNDED)
        return made

    def send(self, tensor: Tensor, to: int) -> "NcclTransfer":
        """Start to send; the tensor must stay as it is until the transfer is over."""
        self.bytes_sent += tensor.nbytes
        tensor = self._to_gpu(tensor)
        return _started(lambda: self._links[self.rank, to].send([tensor], 1, 0), tensor)

    def receiving(self) -> NewTensor:
        """Return a function that makes tensors to receive into; each belongs to its receiver.

        torch's allocator takes their memory for another tensor when the last view is gone.
        """
        return lambda spec, samples: spec.empty(samples, self._device)

    def receive(self, into: Tensor, source: int) -> "NcclTransfer":
        """Start to receive into a tensor that receiving() made."""
        return _started(lambda: self._links[source, self.rank].recv([into], 0, 0), into)

    def on_device(self, message: Tensor) -> Tensor:
        """Return the message itself."""
        return message

    def broadcast(self, tensor: Tensor) -> "NcclTransfer":
        """Start to broadcast from rank 0: it sends the tensor, all others receive into theirs."""
        if self.rank == 0:
            self.bytes_sent += tensor.nbytes * (self.world - 1)
        tensor = self._to_gpu(tensor)
        return _started(lambda: self._all.broadcast(tensor, 0), tensor)

    def all_reduce(self, tensor: Tensor) -> "NcclTransfer":
        """Start to sum over all ranks, in place."""
        self.bytes_sent += 2 * tensor.nbytes * (self.world - 1) // self.world
        return _started(lambda: self._all.allreduce([tensor]), tensor)

    def _to_gpu(self, tensor: Tensor) -> Tensor:
        """Return a tensor to send, on the GPU; the coordinator's data is on the host."""
        return tensor.to(self._device, non_blocking=True)

    def moved(self) -> int:
        """Return 0: the GPU moves messages, and the host does not see their bytes."""
        return 0

    def abort(self) -> None:
        """Abort every message of this rank, at once, from any thread."""
        for backend in (*self._links.values(), self._all):
            with contextlib.suppress(RuntimeError):
                backend.abort()

    def close(self) -> None:
        """Leave the group."""
        self.abort()
        self._links.clear()


class NcclTransfer:
    """One message under way, and the tensor that it is sent from or received into."""

    def __init__(self, work: Any, tensor: Tensor) -> None:
        self._work, self._tensor = work, tensor

    def wait(self) -> Tensor:
        """Make all later work of the computing stream wait for the message.

        Raises GroupLeft when the group is known to be broken.
        """
        try:
            self._work.wait()
        except RuntimeError as error:
            raise GroupLeft(first_line(error)) from error
        return self._tensor


def _started(operation: Callable[[], Any], tensor: Tensor) -> NcclTransfer:
    try:
        return NcclTransfer(operation(), tensor)
    except RuntimeError as error:
        raise GroupLeft(first_line(error)) from error
