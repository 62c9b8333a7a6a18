"""The TCP connections of a gloo group: which ones they are, what moves over them, and their end.

gloo does not tell. But a rank listens for the others of each group on a port of its own, so every
connection of a group has the address of such a listener at one end.
"""

import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import Iterator

from torch._C._distributed_c10d import Store

Address = tuple[str, int]
Ends = tuple[Address, Address]  # own address, peer's address
_TCP_INFO = struct.Struct("@120x2Q")  # Linux's tcp_info: tcpi_bytes_acked, tcpi_bytes_received


class Connections:
    """The connections of one rank with the other ranks of a group; for use from any thread.

    A descriptor may be closed and belong to another connection by now, so each use compares the
    ends.
    """

    def __init__(self, store: Store, rank: int, world: int, own: set[Address]) -> None:
        """Ask the other ranks where they listen; all ranks are connected by now.

        own: where this rank listens for the others of this group.
        """
        store.set(f"listens/{rank}", json.dumps(sorted(own)))
        peers: set[Address] = set()
        for other in set(range(world)) - {rank}:
            peers.update((host, port) for host, port in json.loads(store.get(f"listens/{other}")))
        self._ends: dict[int, Ends] = {}
        self._files: dict[int, int] = {}  # the number of each socket's file
        for descriptor in _descriptors():
            with _socket(descriptor) as connection:
                ends = _ends(connection)
                if connection and ends and (ends[0] in own or ends[1] in peers):
                    self._ends[descriptor] = ends
                    self._files[descriptor] = os.fstat(connection.fileno()).st_ino

    def moved(self) -> int:
        """Return the bytes that were received, and those that the peers have confirmed."""
        moved = 0
        for connection in self._open():
            with contextlib.suppress(OSError):
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
                moved += sum(_TCP_INFO.unpack(info)) if len(info) == _TCP_INFO.size else 0
        return moved

    def shut(self) -> None:
        """Let this end of each see the end of the stream; gloo then closes it.

        Sending stays possible until then: gloo forgets an operation whose message cannot be sent
        just as the peer asks for it, and never ends it.
        """
        for connection in self._open():
            with contextlib.suppress(OSError):  # another thread closes it at the same time
                connection.shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        """Put nothing in the place of connections that gloo does not close, long after shut().

        The descriptors stay gloo's to close.
        """
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            for descriptor, file in self._files.items():
                with contextlib.suppress(OSError):  # closed
                    if os.fstat(descriptor).st_ino == file:
                        os.dup2(nothing.fileno(), descriptor)

    def _open(self) -> Iterator[socket.socket]:
        for descriptor, ends in self._ends.items():
            with _socket(descriptor) as connection:
                if connection is not None and _ends(connection) == ends:
                    yield connection


def listening() -> set[Address]:
    """Return the addresses on which this process listens."""
    found = set()
    for descriptor in _descriptors():
        with _socket(descriptor) as listener, contextlib.suppress(OSError):
            if listener and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(_address(listener.getsockname()))
    return found


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208


@contextlib.contextmanager
def _socket(descriptor: int) -> Iterator[socket.socket | None]:
    """Give a duplicate of a TCP socket; None if the descriptor is closed, or of anything else."""
    duplicate = None
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            duplicate = socket.socket(fileno=os.dup(descriptor))
    try:
        internet = duplicate and duplicate.family in (socket.AF_INET, socket.AF_INET6)
        yield duplicate if internet else None
    finally:
        if duplicate is not None:
            duplicate.close()


def _ends(connection: socket.socket | None) -> Ends | None:
    """Return the addresses at both ends, or None where nothing is connected."""
    with contextlib.suppress(OSError):
        if connection is not None:
            return _address(connection.getsockname()), _address(connection.getpeername())
    return None


def _address(name: tuple[str, int]) -> Address:
    return name[0], name[1]  # IPv6 has more, which differs between hosts
