"""A group over gloo: between CPUs, and through pinned host memory where ranks are on a GPU."""

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._C._distributed_c10d import (
    BroadcastOptions,
    ProcessGroupGloo,
    Store,
)

from workers.groups.connections import Connections, listening
from workers.groups.group import (
    JOIN,
    LOOPBACK,
    UNBOUNDED,
    GroupLeft,
    Left,
    NewTensor,
    await_all,
    first_line,
)
from workers.groups.in_order import InOrder
from workers.groups.ordered_sum import Ended, add_in_order
from workers.groups.staging import Copied, Staging

_CPU = torch.device("cpu")
_SLICE = timedelta(seconds=0.5)
_NEAR, _FAR = 2, 16  # broadcasts at once, on one node and between nodes
_END_S = 10.0  # in which gloo ends a group

Posted: TypeAlias = "Future[Any]"  # gloo's work, once the operation is posted


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
        # each keeps a thread of gloo's, and takes a round trip
        self.broadcasts = _NEAR if host == LOOPBACK else _FAR
        self._waiting = self._copying = False
        self._staging = Staging(device)
        self._links = InOrder("links")
        # a wait for a message cannot be given up, since gloo would close the connection
        self._sends: defaultdict[int, InOrder] = defaultdict(
            lambda: InOrder("sends")
        )  # by receiver
        self._sums = InOrder("sums")
        self._aborted = False
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._threads = self.broadcasts
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
        posted = self._post(lambda: self._gloo.send([message], to, 0), copied)
        sent = self._submit(self._sends[to], lambda: posted.result().wait(UNBOUNDED))
        return GlooTransfer(self, self._unless_aborted(_done(sent)), message)

    def receiving(self) -> NewTensor:
        """Return a function that makes tensors to receive into; each belongs to its receiver."""
        return self._staging.receiving()

    def receive(self, into: Tensor, source: int) -> "GlooTransfer":
        """Start to receive into a tensor that receiving() made."""
        posted = self._post(lambda: self._gloo.recv([into], source, 0))
        return GlooTransfer(self, lambda: posted.result().wait(UNBOUNDED), into)

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
        posted = self._post(lambda: self._gloo.broadcast([message], options), copied)
        return GlooTransfer(self, self._unless_aborted(_ended(posted)), message)

    def all_reduce(self, tensor: Tensor) -> "GlooTransfer":
        """Start to sum over all ranks; every rank gets the same bits."""
        # every rank sends all shares but one twice, as its own and as the sum
        self.bytes_sent += 2 * tensor.nbytes * (self.world - 1) // self.world
        message, copied = self._staging.to_host(tensor)
        added = self._submit(self._sums, lambda: self._add(message, copied))
        return GlooTransfer(self, self._unless_aborted(_done(added)), message)

    def _add(self, vector: Tensor, after: Copied | None) -> None:
        self._await_copy(after)
        gloo = self._gloo

        def send(part: Tensor, to: int, tag: int) -> Ended:
            work = gloo.send([part], to, tag)
            return lambda: work.wait(UNBOUNDED)

        def receive(part: Tensor, source: int, tag: int) -> Ended:
            work = gloo.recv([part], source, tag)
            return lambda: work.wait(UNBOUNDED)

        add_in_order(vector, self.rank, self.world, send, receive)

    def _await_copy(self, copied: Copied | None) -> None:
        """Wait for a copy from the GPU. Raises GroupLeft if this rank has left the group."""
        if copied is not None:
            self._copying = True
            copied()
            self._copying = False
        if self._aborted:
            raise GroupLeft("this rank has left the group")

    def _post(self, operation: Callable[[], Any], after: Copied | None = None) -> Posted:
        def run() -> Any:
            self._await_copy(after)
            return operation()

        # on a thread of its own: gloo locks a connection while bytes arrive, so that posting would
        # delay the block's computing (5 ms of a 130 ms step)
        return self._submit(self._links, run)

    def _submit(self, thread: InOrder, work: Callable[[], Any]) -> "Future[Any]":
        try:
            return thread.submit(work)
        except RuntimeError as error:  # after abort()
            raise GroupLeft("this rank has left the group") from error

    def _unless_aborted(self, ended: Callable[[timedelta], object]) -> Callable[[], object]:
        """Return a wait that also ends some time after abort().

        gloo may lose a message, or a part of a collective, whose connection ends just as the peer
        asks for it: that operation never ends.

        ended: waits for so long, and then raises RuntimeError or TimeoutError.
        """

        def wait() -> object:
            while True:
                start = perf_counter()
                try:
                    return ended(_SLICE)
                except (RuntimeError, TimeoutError):
                    if perf_counter() - start < _SLICE.total_seconds() or self._aborted:
                        raise

        return wait

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

        gloo's own abort leaves a blocked receive blocked, so this method shuts the connections.
        """
        self._aborted = True
        for thread in (self._links, *list(self._sends.values()), self._sums):
            thread.close()
        self._connections.shut()

    def close(self) -> None:
        """Leave the group; its connections are closed once nothing waits for them any more."""
        self.abort()
        last, self._gloo = [self._gloo], None
        end = partial(_end, last, self._connections)
        threading.Thread(target=end, name="gloo's end", daemon=True).start()


class GlooTransfer:
    """One message under way, and the tensor that it is sent from or received into."""

    def __init__(self, group: GlooGroup, ended: Callable[[], object], tensor: Tensor) -> None:
        """ended: waits until the transfer is over; raises what gloo raises."""
        self._group, self._ended, self._tensor = group, ended, tensor

    def wait(self) -> Tensor:
        """Block until the transfer is over, and count the time.

        Raises GroupLeft when the group broke.
        """
        start = perf_counter()
        self._group._waiting = True
        try:
            self._ended()
        except (CancelledError, TimeoutError) as error:
            raise GroupLeft("this rank has left the group") from error
        except RuntimeError as error:
            raise GroupLeft(first_line(error)) from error
        finally:
            self._group._waiting = False
            self._group.wait_s += perf_counter() - start
        return self._tensor


def _done(future: "Future[Any]") -> Callable[[timedelta], object]:
    return lambda seconds: future.result(seconds.total_seconds())


def _end(last: list[Any], connections: Connections) -> None:
    """Drop the last reference to gloo's group, and what its destructor leaves open.

    The destructor waits for the group's collectives, one of which may never end. Its thread would
    then look at a shut connection again and again, and take a core.
    """
    dropping = threading.Thread(target=last.clear, name="gloo's destructor", daemon=True)
    dropping.start()
    dropping.join(_END_S)
    if dropping.is_alive():
        connections.cut()


def _ended(posted: Posted) -> Callable[[timedelta], object]:
    return lambda seconds: posted.result().wait(seconds)
