"""A group of ranks that exchange tensors: 0 is the coordinator, 1..K are a replica's blocks.

Where there are several replicas, those of one block form another group.

A group is an object and not torch's process-wide default group, so that a process can leave it and
join the next one, and so that tests can run ranks as threads of one process. gloo_group.py and
nccl_group.py implement it.
"""

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from dfa_core import TensorSpec, TrainingFailed

LOOPBACK = "127.0.0.1"
JOIN = timedelta(seconds=30)  # in which a rank that is here connects
_LOOK_S = 0.01
UNBOUNDED = timedelta(days=30)  # signs of life bound a wait for a message (workers/life), not this

NewTensor = Callable[[TensorSpec, int], Tensor]  # of a spec, for a number of samples
Left = Callable[[], bool]  # whether a rank is to leave the group that it is joining


class GroupLeft(TrainingFailed):
    """The group broke: a rank died, or `abort` was called."""


class Transfer(Protocol):
    """One message under way, and the tensor that it is sent from or received into."""

    def wait(self) -> Tensor:
        """Return the tensor when the transfer is over.

        Raises GroupLeft when the group broke.
        """


class Group(Protocol):
    """A rank's exchange with the other ranks, and counters of bytes sent and seconds waited."""

    rank: int
    world: int
    bytes_sent: int
    wait_s: float
    broadcasts: int  # that run at once

    @property
    def waits(self) -> bool:
        """Return whether this rank waits for a message now, and computes nothing; any thread."""

    def moved(self) -> int:
        """Return a number that grows whenever a byte of a message arrives, or is taken by a peer.

        From any thread.
        """

    def send(self, tensor: Tensor, to: int) -> Transfer:
        """Start to send; the tensor must stay as it is until the transfer is over."""

    def receiving(self) -> NewTensor:
        """Return a function that makes tensors to receive into; each belongs to its receiver."""

    def receive(self, into: Tensor, source: int) -> Transfer:
        """Start to receive into a tensor that receiving() made."""

    def on_device(self, message: Tensor) -> Tensor:
        """Return a received message on this rank's device."""

    def broadcast(self, tensor: Tensor) -> Transfer:
        """Start to broadcast from rank 0: it sends the tensor, all others receive into theirs."""

    def all_reduce(self, tensor: Tensor) -> Transfer:
        """Start to sum over all ranks; every rank gets the same bits."""

    def abort(self) -> None:
        """Abort every wait of this rank and of its peers, at once, from any thread."""

    def close(self) -> None:
        """Leave the group; its connections are closed once nothing waits for them any more."""


def listen(host: str) -> socket.socket:
    """Open a listening socket on one address and a free port, for rank 0's store."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=1024)


def open_store(host: str, port: int, world: int, listener: socket.socket | None) -> Store:
    """Open the store through which ranks find each other; the rank that has a listener serves it.

    torch's own listener would listen on all interfaces; this socket listens on one.
    """
    return TCPStore(
        host,
        port,
        world,
        is_master=listener is not None,
        timeout=JOIN,
        wait_for_workers=False,
        master_listen_fd=listener.detach() if listener is not None else None,
    )


def replica_store(store: Store, replica: int) -> Store:
    """Return the store in which rank 0 and the blocks of one replica find each other."""
    return PrefixStore(f"replica-{replica}", store)


def copies_store(store: Store, seat: int) -> Store:
    """Return the store in which those meet that host the same in all replicas.

    seat: of a block, or of the first head.
    """
    return PrefixStore(f"copies-{seat}", store)


def error_store(store: Store, replica: int, head: int) -> Store:
    """Return the store in which a replica's blocks meet a head of it that broadcasts errors."""
    return PrefixStore(f"errors-{replica}-{head}", store)


def head_store(store: Store, replica: int, head: int) -> Store:
    """Return the store in which rank 0 and the worker that hosts a head of a replica meet."""
    return PrefixStore(f"head-{replica}-{head}", store)


def data_store(store: Store, replica: int) -> Store:
    """Return the store in which rank 0 and a block that reads its replica's data meet."""
    return PrefixStore(f"data-{replica}", store)


def await_all(store: Store, rank: int, world: int, left: Left) -> None:
    """Wait until all ranks are here, however long another one still works.

    Raises GroupLeft when this rank is to leave meanwhile, RuntimeError when the store is gone.
    """
    store.set(f"here/{rank}", "")
    while not store.check([f"here/{other}" for other in range(world)]):
        if left():
            raise GroupLeft("another rank could not join")
        time.sleep(_LOOK_S)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for people; never an empty one."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
