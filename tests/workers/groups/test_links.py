"""The schedule over real messages, with threads as ranks; and groups that break."""

import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ranks import HOST, Join, run_ranks
from torch._C._distributed_c10d import ProcessGroupGloo

from dfa_core import Forward, Step, TensorSpec, Update, block_actions, in_flight
from workers.groups import gloo_group
from workers.groups.gloo_group import GlooGroup
from workers.groups.group import Group, GroupLeft, Transfer, listen, open_store
from workers.groups.nccl_group import NcclGroup, ring
from workers.links import Inbox, Outbox

HOST_V6 = "::1"


def over_gloo_a_link(store: Any, rank: int, world: int, host: str) -> Group:
    """What joins GPUs by NCCL, with gloo in its place: one communicator a link."""

    def make(store: Any, rank: int, world: int) -> Any:
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._timeout = timedelta(seconds=20)
        options._devices = [gloo.create_device(hostname=host)]
        return gloo(store, rank, world, options)

    return NcclGroup(store, rank, world, ring(world), torch.device("cpu"), make)


def from_a_gpu(store: Any, rank: int, world: int, host: str) -> Group:
    return GlooGroup(store, rank, world, host, torch.device("cuda"))


@pytest.mark.parametrize(
    ("host", "join"),
    [
        pytest.param(HOST, GlooGroup, id="gloo", marks=pytest.mark.blocks),
        pytest.param(HOST_V6, GlooGroup, id="gloo-ipv6", marks=pytest.mark.blocks),
        pytest.param(HOST, over_gloo_a_link, id="a-communicator-a-link", marks=pytest.mark.blocks),
        pytest.param(HOST, from_a_gpu, id="gloo-from-a-gpu", marks=pytest.mark.gpu),
    ],
)
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(0, 3))
def test_every_message_arrives_in_its_place(
    host: str, join: Join, blocks: int, microbatches: int, steps: int, staleness: int
) -> None:
    """Numbers travel in place of activations: block k adds k, the error is what came out."""
    spec, samples = TensorSpec((5,), torch.float32), 3
    messages = steps * microbatches
    total = blocks * (blocks + 1) / 2

    def coordinator(group: Group) -> None:
        inputs, errors = Outbox(group, to=1), Outbox(group, to=None)
        outputs = Inbox(group, blocks, spec, [samples] * messages, slots=3)
        for message in range(messages):
            inputs.send(torch.full((samples, 5), float(message)))
        for message in range(messages):
            h = outputs.take()
            assert torch.equal(h.cpu(), torch.full((samples, 5), message + total))
            errors.send(h.clone())
            outputs.release()
        inputs.keep(at_most=0)
        errors.keep(at_most=0)
        assert group.bytes_sent == messages * samples * 5 * 4 * (1 + blocks)

    def block(group: Group) -> None:
        ahead = in_flight(blocks, microbatches, staleness)
        inputs = Inbox(group, group.rank - 1, spec, [samples] * messages, slots=ahead + 2)
        outputs = Outbox(group, (group.rank + 1) % (blocks + 1))
        errors = Inbox(group, None, spec, [samples] * messages, slots=2)
        kept: dict[tuple[int, int], torch.Tensor] = {}
        for action in block_actions(blocks, microbatches, 0, steps, staleness):
            match action:
                case Forward(step, m):
                    kept[step, m] = inputs.take()
                    outputs.send(kept[step, m] + group.rank)
                case Update(step, m):
                    e = errors.take()
                    number = step * microbatches + m
                    assert torch.equal(e, torch.full_like(e, number + total))
                    # the input was not overwritten while its microbatch waited
                    assert float(kept.pop((step, m))[0, 0]) == number + sum(range(1, group.rank))
                    errors.release()
                    inputs.release()
                case Step(step):
                    assert all(waiting > step for waiting, _ in kept)
        assert not kept
        outputs.keep(at_most=0)

    def work(group: Group) -> None:
        (block if group.rank else coordinator)(group)

    assert run_ranks(blocks + 1, work, host=host, join=join) == [None] * (blocks + 1)


@pytest.mark.blocks
def test_parts_of_several_sizes() -> None:
    sizes = [4, 4, 1]
    spec = TensorSpec((2,), torch.int64)

    def work(group: Group) -> None:
        if group.rank == 0:
            box = Outbox(group, to=1)
            for size in sizes:
                box.send(torch.full((size, 2), size))
            box.keep(at_most=0)
        else:
            inbox = Inbox(group, 0, spec, sizes, slots=2)
            for size in sizes:
                assert inbox.take().tolist() == [[size, size]] * size
                inbox.release()

    assert run_ranks(2, work) == [None, None]


@pytest.mark.blocks
def test_abort_ends_every_wait_at_once() -> None:
    joined = threading.Barrier(3)  # no rank aborts while another one still connects
    seconds: list[float] = []

    def work(group: Group) -> None:
        joined.wait(timeout=30)
        if group.rank == 1:
            threading.Timer(0.2, group.abort).start()
        start = monotonic()
        try:
            group.receive(torch.zeros(3), (group.rank + 1) % 3).wait()
        finally:
            seconds.append(monotonic() - start)
            # abort() ends the waits for rank 1, of rank 0 and of rank 1 itself. Rank 2 waits for
            # rank 0, which leaves when the coordinator tells it to.
            group.abort()

    raised = run_ranks(3, work)
    assert [type(error) for error in raised] == [GroupLeft] * 3
    assert max(seconds) < 5


@pytest.mark.blocks
def test_a_slow_peer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the time in which ranks connect: work takes as long as it takes."""
    monkeypatch.setattr(gloo_group, "JOIN", timedelta(seconds=1))

    def work(group: Group) -> None:
        starts: list[Callable[[torch.Tensor], Transfer]] = [
            lambda x: group.send(x, 0) if group.rank else group.receive(x, 1),
            group.all_reduce,
            group.broadcast,
        ]
        for start in starts:
            if group.rank:
                sleep(1.3)
            start(torch.ones(3)).wait()

    assert run_ranks(2, work) == [None, None]


@pytest.mark.blocks
def test_bytes_that_move_are_counted() -> None:
    """A long message shows that the connection lives; a wait without one counts nothing."""
    size = 1 << 20
    both = threading.Barrier(2)  # neither sends, or closes its connection, while the other counts

    def work(group: Group) -> None:
        both.wait(timeout=30)
        before = group.moved()
        sleep(0.1)
        assert group.moved() == before
        both.wait(timeout=30)
        message = torch.zeros(size, dtype=torch.uint8)
        (group.send(message, 1) if group.rank == 0 else group.receive(message, 0)).wait()
        while group.moved() < before + size:  # until the receiver's kernel has confirmed all
            sleep(0.01)
        assert not group.waits
        both.wait(timeout=30)

    assert run_ranks(2, work) == [None, None]


@pytest.mark.blocks
def test_a_rank_that_joins_leaves_when_it_is_told_to() -> None:
    listener = listen(HOST)
    store = open_store(HOST, listener.getsockname()[1], 2, listener)
    asked = iter((False, True))
    with pytest.raises(GroupLeft, match="another rank could not join"):
        GlooGroup(store, 0, 2, HOST, left=lambda: next(asked))


@pytest.mark.blocks
def test_abort_knows_its_connections_by_their_addresses() -> None:
    """Descriptors tell nothing: those of connections that close while a group forms come again."""
    joined, left = threading.Barrier(2), threading.Event()
    server = listen(HOST)
    closing = [socket.create_connection(server.getsockname()) for _ in range(20)]

    def close_others() -> bool:  # asked by a rank that waits for the other
        while closing:
            closing.pop().close()
        return False

    def work(group: Group) -> None:
        joined.wait(timeout=30)
        if group.rank == 0:
            group.abort()
            assert left.wait(timeout=30)  # a group that nobody holds would end by itself
        else:
            try:
                group.receive(torch.zeros(3), 0).wait()
            finally:
                left.set()

    def late(store: Any, rank: int, world: int, host: str) -> Group:
        if rank == 1:
            store.wait(["here/0"])
            while closing:
                sleep(0.01)
        return GlooGroup(store, rank, world, host, left=close_others)

    raised = run_ranks(2, work, join=late)
    server.close()
    assert raised[0] is None
    assert isinstance(raised[1], GroupLeft)


@pytest.mark.blocks
def test_connections_of_others_are_left_alone() -> None:
    """abort() shuts the group's own connections and no other of this process."""
    server = listen(HOST)
    with socket.create_connection(server.getsockname()) as mine:
        other, _ = server.accept()
        with other:
            run_ranks(2, lambda group: group.abort())
            mine.sendall(b"still here")
            assert other.recv(10) == b"still here"
    server.close()


def test_the_store_listens_on_one_address() -> None:
    listener = listen(HOST)
    with pytest.raises(OSError, match=r"refused|unreachable"):
        import socket

        socket.create_connection(("127.0.0.2", listener.getsockname()[1]), timeout=1)
    listener.close()
