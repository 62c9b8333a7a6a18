"""One torch.distributed group of ranks: 0 is the coordinator, 1..K are the blocks of a replica.

The replicas of one block, where there are several, are another group, rank by rank.

The group is an object and not torch's process-wide default, so that a process can leave one and
join the next, and threads of one process can be ranks of it in tests.
"""

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

from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, Store, TCPStore

from dfa_core import TrainingFailed

LOOPBACK = "127.0.0.1"
_JOIN_S = 8.0  # so long is a rank waited for that died before they all met


class GroupLeft(TrainingFailed):
    """The group broke: a rank died, hung past the deadline, or `abort` was called."""


def listen(host: str) -> socket.socket:
    """Open a listening socket on one address and a free port, for rank 0's store."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=1024)


def open_store(host: str, port: int, world: int, listener: socket.socket | None) -> Store:
    """Open the store through which ranks find each other; the rank that has a listener serves it.

    torch's own listener would take all interfaces; a socket made beforehand takes just the one.
    """
    return TCPStore(
        host,
        port,
        world,
        is_master=listener is not None,
        timeout=timedelta(seconds=_JOIN_S),
        wait_for_workers=False,
        master_listen_fd=listener.detach() if listener is not None else None,
    )


def replica_store(store: Store, replica: int) -> Store:
    """Return the store in which rank 0 and the blocks of one replica find each other."""
    return PrefixStore(f"replica-{replica}", store)


def block_store(store: Store, block: int) -> Store:
    """Return the store in which the replicas of one block find each other."""
    return PrefixStore(f"block-{block}", store)


class Group:
    """A gloo group of this rank, with counters of bytes sent and of seconds waited."""

    def __init__(self, store: Store, rank: int, world: int, host: str, timeout_s: float) -> None:
        """Join; returns when all ranks have.

        host: this node's address, on which its ranks listen; LOOPBACK where all are on one node.
        timeout_s: longest wait for one message, after which the group counts as broken.

        Raises GroupLeft when the others do not come.
        """
        self.rank, self.world = rank, world
        self.bytes_sent = 0
        self.wait_s = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="links")
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._timeout = timedelta(seconds=timeout_s)
        options._devices = [gloo.create_device(hostname=host)]
        before = set(_connections())
        try:
            store.set(f"here/{rank}", "")  # gloo's own wait for the others would be `timeout_s`
            store.wait([f"here/{other}" for other in range(world)], timedelta(seconds=_JOIN_S))
            self._gloo: Any = gloo(store, rank, world, options)
            self._sockets = _shared_with_peers(store, rank, world, before)
        except RuntimeError as error:
            raise GroupLeft(
                f"rank {rank} could not join the group: {_first_line(error)}"
            ) from error

    def send(self, tensor: Tensor, to: int) -> "Transfer":
        """Start to send; the tensor must stay as it is until the transfer is over."""
        self.bytes_sent += tensor.numel() * tensor.element_size()
        return self._start(lambda: self._gloo.send([tensor], to, 0), tensor)

    def receive(self, into: Tensor, source: int) -> "Transfer":
        """Start to receive into a buffer."""
        return self._start(lambda: self._gloo.recv([into], source, 0), into)

    def broadcast(self, tensor: Tensor) -> "Transfer":
        """Start to broadcast from rank 0: it sends the tensor, all others receive into it."""
        if self.rank == 0:
            self.bytes_sent += tensor.numel() * tensor.element_size() * (self.world - 1)
        return self._start(lambda: self._gloo.broadcast(tensor, 0), tensor)

    def all_reduce(self, tensor: Tensor) -> "Transfer":
        """Start to sum over all ranks, in place; every rank gets the same bits."""
        # a ring: every rank passes all but its own share on, once as a sum and once as the result
        self.bytes_sent += 2 * tensor.nbytes * (self.world - 1) // self.world
        return self._start(lambda: self._gloo.allreduce([tensor]), tensor)

    def _start(self, operation: Callable[[], Any], tensor: Tensor) -> "Transfer":
        # by a thread of its own: gloo holds a connection's lock while bytes come in, and posting
        # would wait for it in the middle of the block's computing (5 ms of a 130 ms step)
        try:
            return Transfer(self, self._thread.submit(operation), tensor)
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


class Transfer:
    """One message on its way, and the tensor it fills or empties."""

    def __init__(self, group: Group, work: Future[Any], tensor: Tensor) -> None:
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
            raise GroupLeft(_first_line(error)) from error
        finally:
            self._group.wait_s += perf_counter() - start
        return self._tensor


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
