"""A group over gloo: between CPUs, and through pinned host memory where ranks are on a GPU."""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import timedelta
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import ProcessGroupGloo, Store

from dfa_core import TensorSpec
from workers.group import GroupLeft, Read, await_all, first_line
from workers.staging import Staging

_CPU = torch.device("cpu")


class GlooGroup:
    """A gloo group of this rank, with counters of bytes sent and of seconds waited."""

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        host: str,
        timeout_s: float,
        device: torch.device = _CPU,
    ) -> None:
        """Join; returns when all ranks have.

        host: this node's address, on which its ranks listen; LOOPBACK where all are on one node.
        timeout_s: longest wait for one message, after which the group counts as broken.
        device: where this rank computes, and has the tensors that it sends.

        Raises GroupLeft when the others do not come.
        """
        self.rank, self.world = rank, world
        self.bytes_sent = 0
        self.wait_s = 0.0
        self._staging = Staging(device)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="links")
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._timeout = timedelta(seconds=timeout_s)
        options._devices = [gloo.create_device(hostname=host)]
        before = set(_connections())
        try:
            await_all(store, rank, world)  # gloo's own wait for the others would be `timeout_s`
            self._gloo: Any = gloo(store, rank, world, options)
            self._sockets = _shared_with_peers(store, rank, world, before)
        except RuntimeError as error:
            raise GroupLeft(f"rank {rank} could not join the group: {first_line(error)}") from error

    def send(self, tensor: Tensor, to: int) -> "GlooTransfer":
        """Start to send; the tensor must stay as it is until the transfer is over."""
        self.bytes_sent += tensor.nbytes
        message, copied = self._staging.to_host(tensor)
        return self._start(lambda: self._gloo.send([message], to, 0), message, copied)

    def buffer(self, spec: TensorSpec, samples: int) -> Tensor:
        """Return memory that messages of so many samples can be received into."""
        return self._staging.buffer(spec, samples)

    def receive(self, into: Tensor, source: int, read: Read | None = None) -> "GlooTransfer":
        """Start to receive into a buffer, once what it held was read."""
        return self._start(lambda: self._gloo.recv([into], source, 0), into, read)

    def on_device(self, message: Tensor) -> tuple[Tensor, Read | None]:
        """Return what was received as this rank's device has it, and what waits until it was read.

        None: it is the buffer itself, and is read as long as it is used.
        """
        return self._staging.to_device(message)

    def broadcast(self, tensor: Tensor, read: Read | None = None) -> "GlooTransfer":
        """Start to broadcast from rank 0: it sends the tensor, all others receive into theirs.

        read: of a buffer to receive into, as for receive().
        """
        if self.rank == 0:
            self.bytes_sent += tensor.nbytes * (self.world - 1)
        message, copied = self._staging.to_host(tensor)
        return self._start(lambda: self._gloo.broadcast(message, 0), message, copied or read)

    def all_reduce(self, tensor: Tensor) -> "GlooTransfer":
        """Start to sum over all ranks; every rank gets the same bits."""
        # a ring: every rank passes all but its own share on, once as a sum and once as the result
        self.bytes_sent += 2 * tensor.nbytes * (self.world - 1) // self.world
        message, copied = self._staging.to_host(tensor)
        return self._start(lambda: self._gloo.allreduce([message]), message, copied)

    def _start(
        self, operation: Callable[[], Any], message: Tensor, after: Read | None
    ) -> "GlooTransfer":
        def run() -> Any:
            if after is not None:
                after()
            return operation()

        # by a thread of its own: gloo holds a connection's lock while bytes come in, and posting
        # would wait for it in the middle of the block's computing (5 ms of a 130 ms step)
        try:
            return GlooTransfer(self, self._thread.submit(run), message)
        except RuntimeError as error:  # after abort()
            raise GroupLeft("this rank has left the group") from error

    def abort(self) -> None:
        """Break off every wait of this rank and of its peers, at once, from any thread.

        gloo's own abort leaves a blocked receive blocked, so the connections are shut instead: both
        ends see the end of the stream.
        """
        self._thread.shutdown(wait=False, cancel_futures=True)
        for descriptor, key in self._sockets.items():
            if _connections().get(descriptor) != key:
                continue
            # closed just now, where another thread leaves too
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(descriptor)) as connection,
            ):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Leave the group, and give its connections back once nothing waits any more."""
        self.abort()
        self._gloo = None


class GlooTransfer:
    """One message on its way, and the tensor it fills or empties."""

    def __init__(self, group: GlooGroup, work: Future[Any], tensor: Tensor) -> None:
        self._group, self._work, self._tensor = group, work, tensor

    def wait(self) -> Tensor:
        """Block until the message is through; count the time.

        Raises GroupLeft when the group broke or its deadline passed.
        """
        start = perf_counter()
        try:
            self._work.result().wait()
        except CancelledError as error:
            raise GroupLeft("this rank has left the group") from error
        except RuntimeError as error:
            raise GroupLeft(first_line(error)) from error
        finally:
            self._group.wait_s += perf_counter() - start
        return self._tensor


Connection = tuple[str, str]


def _connections() -> dict[int, Connection]:
    """Return this process's TCP connections: descriptor -> (own address, peer's address)."""
    found = {}
    for name in os.listdir("/dev/fd"):  # noqa: PTH208
        descriptor = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as s:
                if s.family in (socket.AF_INET, socket.AF_INET6):
                    found[descriptor] = (str(s.getsockname()), str(s.getpeername()))
        except OSError:  # closed meanwhile, or not connected
            continue
    return found


def _shared_with_peers(
    store: Store, rank: int, world: int, before: set[int]
) -> dict[int, Connection]:
    """Return which of the connections opened since `before` lead to another rank of this group.

    A process has other connections (Ray's), and those must not be shut: ours are the ones of which
    a peer reports the other end.
    """
    mine = {d: key for d, key in _connections().items() if d not in before}
    store.set(f"connections/{rank}", json.dumps(list(mine.values())))
    peers: set[Connection] = set()
    for other in range(world):
        if other != rank:
            ends = json.loads(store.get(f"connections/{other}"))
            peers.update((str(own), str(far)) for own, far in ends)
    return {d: (own, far) for d, (own, far) in mine.items() if (far, own) in peers}
