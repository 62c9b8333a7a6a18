"""A group that is aborted in the middle of its messages: no wait outlives it."""

import random
import threading
from contextlib import suppress
from time import monotonic

import pytest
import torch
from support.ranks import run_ranks

from dfa_core import TensorSpec
from workers.groups.group import Group, GroupLeft
from workers.links import Inbox, Outbox

MICROBATCHES, SAMPLES = 400, 8  # more than pass before any abort
H, E = TensorSpec((16,), torch.float32), TensorSpec((4,), torch.float32)


def coordinate(group: Group) -> None:
    outputs = Inbox(group, 2, H, [SAMPLES] * MICROBATCHES, slots=4)
    inputs, errors = Outbox(group, to=1), Outbox(group, to=None)
    for _ in range(6):
        inputs.send(H.empty(SAMPLES))
    for _ in range(MICROBATCHES):
        outputs.take()
        outputs.release()
        errors.send(E.empty(SAMPLES))
        inputs.send(H.empty(SAMPLES))
        inputs.keep(at_most=3)
        errors.keep(at_most=2)


def compute(group: Group) -> None:
    inputs = Inbox(group, group.rank - 1, H, [SAMPLES] * MICROBATCHES, slots=4)
    errors = Inbox(group, None, E, [SAMPLES] * MICROBATCHES, slots=2)
    outputs = Outbox(group, to=(group.rank + 1) % 3)
    for microbatch in range(MICROBATCHES):
        outputs.send(inputs.take().clone())
        inputs.release()
        outputs.keep(at_most=3)
        if microbatch >= 3:
            errors.take()
            errors.release()


def longest_wait(after_s: float) -> float:
    """Let three ranks exchange messages, abort all of them, and return how long they took."""
    joined, groups, seconds = threading.Barrier(3), list[Group](), list[float]()

    def abort_all() -> None:
        for group in groups:
            group.abort()

    def work(group: Group) -> None:
        groups.append(group)
        joined.wait(timeout=30)
        if group.rank == 0:
            threading.Timer(after_s, abort_all).start()
        start = monotonic()
        with suppress(GroupLeft):
            (compute if group.rank else coordinate)(group)
        group.close()
        seconds.append(monotonic() - start)

    assert run_ranks(3, work) == [None] * 3
    return max(seconds)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "times",
    [
        pytest.param(60, marks=pytest.mark.blocks),
        pytest.param(2000, marks=pytest.mark.endurance),
    ],
)
def test_no_wait_outlives_an_abort(times: int) -> None:
    """gloo loses operations whose connection ends just as the peer asks for them."""
    for seed in range(times):
        assert longest_wait(random.Random(seed).uniform(0, 0.02)) < 5
