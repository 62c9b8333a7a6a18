"""Ranks of a real group as threads of one process."""

import threading
from collections.abc import Callable
from typing import Any

from workers.groups.gloo_group import GlooGroup
from workers.groups.group import Group, listen, open_store

HOST = "127.0.0.1"

Join = Callable[[Any, int, int, str], Group]


def run_ranks(
    world: int,
    work: Callable[[Group], None],
    host: str = HOST,
    join: Join = GlooGroup,
) -> list[BaseException | None]:
    """Run `work` as each rank of a real group, one thread a rank; return what each raised."""
    listener = listen(host)
    port = listener.getsockname()[1]
    raised: list[BaseException | None] = [None] * world

    def one(rank: int) -> None:
        try:
            store = open_store(host, port, world, listener if rank == 0 else None)
            work(join(store, rank, world, host))
        except BaseException as error:
            raised[rank] = error

    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), f"a rank hangs; the ranks raised {raised}"
    return raised
