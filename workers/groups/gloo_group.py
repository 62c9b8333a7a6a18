"""A group over gloo: between CPUs, and through pinned host memory where ranks are on a GPU."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import (
    AllreduceOptions,
    BroadcastOptions,
    ProcessGroupGloo,
    Store,
)

from workers.groups.connections import Connections, listening
from workers.groups.group import JOIN, UNBOUNDED, GroupLeft, Left, NewTensor, await_all, first_line
from workers.groups.staging import Copied, Staging

_CPU = torch.device("cpu")


class GlooGroup:
    """A gloo group of this rank, with counters of bytes sent and of seconds waited."""

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        host: str,
        device: torch.device = _CPU,
        left: Left = lambda: False,
    ) -> None:
        """Join; return when all ranks have joined.

        host: this node's address, on which its ranks listen; LOOPBACK where all are on one node.
        device: where this rank computes, and where the tensors are that it sends.
        left: whether to stop waiting for the others to join.

        Raises GroupLeft when it is to leave, or another rank is gone.
        """
        self.rank, self.world = rank, world
        self.bytes_sent = 0
        self.wait_s = 0.0
        self._waiting = self._copying = False
        self._staging = Staging(device)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="links")
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._timeout = JOIN  # to connect; the others are here by then
        before = listening()
        options._devices = [gloo.create_device(hostname=host)]
        own = listening() - before
        try:
            await_all(store, rank, world, left)  # gloo itself would not wait for them for long
            self._gloo: Any = gloo(store, rank, world, options)
            self._connections = Connections(store, rank, world, own)
        except GroupLeft:
            raise
        except RuntimeError as error:
            raise GroupLeft(f"rank {rank} could not join the group: {first_line(error)}") from error

    def send(self, tensor: Tensor, to: int) -> "GlooTransfer":
        """Start to send; the tensor must stay as it is until the transfer is over."""
        self.bytes_sent += tensor.nbytes
        message, copied = self._staging.to_host(tensor)
        return self._start(lambda: self._gloo.send([message], to, 0), message, copied)

    def receiving(self) -> NewTensor:
        """Return a function that makes tensors to receive into; each belongs to its receiver."""
        return self._staging.receiving()

    def receive(self, into: Tensor, source: int) -> "GlooTransfer":
        """Start to receive into a tensor that receiving() made."""
        return self._start(lambda: self._gloo.recv([into], source, 0), into)

    def on_device(self, message: Tensor) -> Tensor:
        """Return a received message on this rank's device."""
        return self._staging.to_device(message)

    def broadcast(self, tensor: Tensor) -> "GlooTransfer":
        """Start to broadcast from rank 0: it sends the tensor, all others receive into theirs."""
        if self.rank == 0:
            self.bytes_sent += tensor.nbytes * (self.world - 1)
        message, copied = self._staging.to_host(tensor)
        options = BroadcastOptions()
        options.rootRank, options.timeout = 0, UNBOUNDED
        return self._start(lambda: self._gloo.broadcast([message], options), message, copied)

    def all_reduce(self, tensor: Tensor) -> "GlooTransfer":
        """Start to sum over all ranks; every rank gets the same bits."""
        # a ring: every rank sends all shares but one twice, as partial sums and as results
        self.bytes_sent += 2 * tensor.nbytes * (self.world - 1) // self.world
        message, copied = self._staging.to_host(tensor)
        options = AllreduceOptions()
        options.timeout = UNBOUNDED
        return self._start(lambda: self._gloo.allreduce([message], options), message, copied)

    def _start(
        self, operation: Callable[[], Any], message: Tensor, after: Copied | None = None
    ) -> "GlooTransfer":
        def run() -> Any:
            if after is not None:
                self._copying = True
                after()
                self._copying = False
            return operation()

        # on a thread of its own: gloo locks a connection while bytes arrive, so that posting would
        # delay the block's computing (5 ms of a 130 ms step)
        try:
            return GlooTransfer(self, self._thread.submit(run), message)
        except RuntimeError as error:  # after abort()
            raise GroupLeft("this rank has left the group") from error

    @property
    def waits(self) -> bool:
        """Return whether this rank waits for a message now, and computes nothing; any thread.

        A message that is not copied from the GPU yet shows that the GPU still computes it.
        """
        return self._waiting and not self._copying

    def moved(self) -> int:
        """Return a number that grows whenever a byte of a message arrives, or is taken by a peer.

        From any thread.
        """
        return self._connections.moved()

    def abort(self) -> None:
        """Abort every wait of this rank and of its peers, at once, from any thread.

        gloo's own abort leaves a blocked receive blocked, so this method shuts the connections:
        both ends see the end of the stream.
        """
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._connections.shut()

    def close(self) -> None:
        """Leave the group; its connections are closed once nothing waits for them any more."""
        self.abort()
        self._gloo = None


class GlooTransfer:
    """One message under way, and the tensor that it is sent from or received into."""

    def __init__(self, group: GlooGroup, work: Future[Any], tensor: Tensor) -> None:
        self._group, self._work, self._tensor = group, work, tensor

    def wait(self) -> Tensor:
        """Block until the transfer is over, and count the time.

        Raises GroupLeft when the group broke.
        """
        start = perf_counter()
        self._group._waiting = True
        try:
            self._work.result().wait(UNBOUNDED)
        except CancelledError as error:
            raise GroupLeft("this rank has left the group") from error
        except RuntimeError as error:
            raise GroupLeft(first_line(error)) from error
        finally:
            self._group._waiting = False
            self._group.wait_s += perf_counter() - start
        return self._tensor
