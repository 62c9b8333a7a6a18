"""A group over NCCL, where every rank has a GPU of its own: messages stay on the GPUs.

Neighbours have a communicator for each direction, and the broadcast another, so that none waits
behind another's message. A wait makes the computing stream wait, and not the host.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store

from dfa_core import TensorSpec
from workers.group import GroupLeft, Read, await_all, first_line

RankPair = tuple[int, int]  # from a rank to a rank
Backend = Any  # torch's, of any library: they have one interface
MakeBackend = Callable[[Store, int, int, float], Backend]  # of a rank, of how many, timeout in s


def nccl(store: Store, rank: int, world: int, timeout_s: float) -> Backend:
    """Return torch's NCCL backend, which a build for CPUs alone does not have."""
    kind: Any = torch.distributed.ProcessGroupNCCL
    options = kind.Options()
    options._timeout = timedelta(seconds=timeout_s)
    return kind(store, rank, world, options)


def ring(world: int) -> list[RankPair]:
    """Return how activations go: from the coordinator through the blocks, and back to it."""
    return [(rank, (rank + 1) % world) for rank in range(world)]


class NcclGroup:
    """A group of this rank. Its `wait_s` stays 0: it is the GPU that waits."""

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        links: Sequence[RankPair],
        timeout_s: float,
        device: torch.device,
        make: MakeBackend = nccl,
    ) -> None:
        """Join; returns when all ranks have.

        links: along which ranks send; broadcast and all_reduce need none.
        timeout_s: longest wait for one message, after which the group counts as broken.
        device: this rank's GPU.

        Raises GroupLeft when the others do not come.
        """
        self.rank, self.world = rank, world
        self.bytes_sent = 0
        self.wait_s = 0.0
        self._device, self._store, self._make, self._timeout_s = device, store, make, timeout_s
        self._links: dict[RankPair, Backend] = {}
        try:
            await_all(store, rank, world)
            for link in links:  # in one order everywhere: each meets the next when it has met one
                if rank in link:
                    self._links[link] = self._meet(f"{link[0]}-{link[1]}", link.index(rank), 2)
            self._all = self._meet("all", rank, world)
        except RuntimeError as error:
            raise GroupLeft(f"rank {rank} could not join the group: {first_line(error)}") from error

    def _meet(self, name: str, rank: int, world: int) -> Backend:
        """Return a communicator that is connected: NCCL else does it at the first message.

        There it would wait for a peer that waits for a message of ours.
        """
        made = self._make(PrefixStore(name, self._store), rank, world, self._timeout_s)
        made.allreduce([torch.zeros(1, device=self._device)]).wait()
        return made

    def send(self, tensor: Tensor, to: int) -> "NcclTransfer":
        """Start to send; the tensor must stay as it is until the transfer is over."""
        self.bytes_sent += tensor.nbytes
        tensor = self._here(tensor)
        return _started(lambda: self._links[self.rank, to].send([tensor], 1, 0), tensor)

    def buffer(self, spec: TensorSpec, samples: int) -> Tensor:
        """Return memory that messages of so many samples can be received into."""
        return spec.empty(samples).to(self._device)

    def receive(self, into: Tensor, source: int, read: Read | None = None) -> "NcclTransfer":
        """Start to receive into a buffer, behind what the computing stream still reads there."""
        del read
        return _started(lambda: self._links[source, self.rank].recv([into], 0, 0), into)

    def on_device(self, message: Tensor) -> tuple[Tensor, Read | None]:
        """Return the buffer itself."""
        return message, None

    def broadcast(self, tensor: Tensor, read: Read | None = None) -> "NcclTransfer":
        """Start to broadcast from rank 0: it sends the tensor, all others receive into theirs."""
        del read
        if self.rank == 0:
            self.bytes_sent += tensor.nbytes * (self.world - 1)
        tensor = self._here(tensor)
        return _started(lambda: self._all.broadcast(tensor, 0), tensor)

    def all_reduce(self, tensor: Tensor) -> "NcclTransfer":
        """Start to sum over all ranks, in place."""
        self.bytes_sent += 2 * tensor.nbytes * (self.world - 1) // self.world
        return _started(lambda: self._all.allreduce([tensor]), tensor)

    def _here(self, tensor: Tensor) -> Tensor:
        """Return what is to be sent on the GPU: the coordinator's data comes from the host."""
        return tensor.to(self._device, non_blocking=True)

    def abort(self) -> None:
        """Break off every message of this rank, at once, from any thread."""
        for backend in (*self._links.values(), self._all):
            with contextlib.suppress(RuntimeError):
                backend.abort()

    def close(self) -> None:
        """Leave the group."""
        self.abort()
        self._links.clear()


class NcclTransfer:
    """One message on its way, and the tensor it fills or empties."""

    def __init__(self, work: Any, tensor: Tensor) -> None:
        self._work, self._tensor = work, tensor

    def wait(self) -> Tensor:
        """Let what is computed from now on wait for the message.

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
