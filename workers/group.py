"""A group of ranks that exchange tensors: 0 is the coordinator, 1..K are a replica's blocks.

The replicas of one block, where there are several, are another group, rank by rank.

A group is an object and not torch's process-wide default, so that a process can leave one and join
the next, and threads of one process can be ranks of it in tests. gloo_group.py and nccl_group.py
are the two kinds.
"""

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from dfa_core import TensorSpec, TrainingFailed

LOOPBACK = "127.0.0.1"
_JOIN_S = 8.0  # so long is a rank waited for that died before they all met

Read = Callable[[], None]  # returns once a buffer was read


class GroupLeft(TrainingFailed):
    """The group broke: a rank died, hung past the deadline, or `abort` was called."""


class Transfer(Protocol):
    """One message on its way, and the tensor it fills or empties."""

    def wait(self) -> Tensor:
        """Return the tensor when the message is through.

        Raises GroupLeft when the group broke or its deadline passed.
        """


class Group(Protocol):
    """What a rank does with the others, and counters of bytes sent and of seconds waited."""

    rank: int
    world: int
    bytes_sent: int
    wait_s: float

    def send(self, tensor: Tensor, to: int) -> Transfer:
        """Start to send; the tensor must stay as it is until the transfer is over."""

    def buffer(self, spec: TensorSpec, samples: int) -> Tensor:
        """Return memory that messages of so many samples can be received into."""

    def receive(self, into: Tensor, source: int, read: Read | None = None) -> Transfer:
        """Start to receive into a buffer, once what it held was read."""

    def on_device(self, message: Tensor) -> tuple[Tensor, Read | None]:
        """Return what was received as this rank's device has it, and what waits until it was read.

        None: it is the buffer itself, and is read as long as it is used.
        """

    def broadcast(self, tensor: Tensor, read: Read | None = None) -> Transfer:
        """Start to broadcast from rank 0: it sends the tensor, all others receive into theirs.

        read: of a buffer to receive into, as for receive().
        """

    def all_reduce(self, tensor: Tensor) -> Transfer:
        """Start to sum over all ranks; every rank gets the same bits."""

    def abort(self) -> None:
        """Break off every wait of this rank and of its peers, at once, from any thread."""

    def close(self) -> None:
        """Leave the group, and give its connections back once nothing waits any more."""


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


def await_all(store: Store, rank: int, world: int) -> None:
    """Wait until all ranks are here, for a short while: a group's own wait may be a long one.

    Raises RuntimeError when one is not.
    """
    store.set(f"here/{rank}", "")
    store.wait([f"here/{other}" for other in range(world)], timedelta(seconds=_JOIN_S))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for people."""
    return (str(error).splitlines() or [type(error).__name__])[0]
