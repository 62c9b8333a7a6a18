"""The coordinator's loop: rank 0 feeds the blocks, makes the global error, and broadcasts it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from coordinator.feed import Feed
from dfa_core import FlowSpec, Head, SampleSpec, in_flight
from dfa_core.signals import broadcast, foretold, of_target
from workers.group import Group
from workers.links import Inbox, Outbox

OnStep = Callable[[int, float], None]


def train_segment(
    head: Head,
    group: Group,
    feed: Feed,
    arriving: FlowSpec,
    error: SampleSpec,
    first: int,
    last: int,
    on_step: OnStep,
) -> None:
    """Train steps first..last-1, together with the blocks' own loops.

    arriving: what the last block sends; error: what is broadcast; on_step: called with each step
    and its loss.

    Raises NonFiniteLoss, and GroupLeft when a block is gone.
    """
    blocks, microbatches = group.world - 1, head.rule.microbatches
    messages = (last - first) * microbatches
    # as many as block 1 has receives posted
    ahead = in_flight(blocks, microbatches, head.rule.staleness) + 2

    inputs = Outbox(group, to=1)
    outputs = Inbox(group, blocks, arriving.message, [feed.samples] * messages, slots=3)
    errors = Outbox(group, to=None)

    coming = feed.microbatches(first, last)
    targets: deque[Tensor] = deque()

    def send_next() -> None:
        x_and_target = next(coming, None)
        if x_and_target is not None:
            inputs.send(x_and_target[0])
            targets.append(x_and_target[1])
            if foretold(head.rule):
                errors.send(of_target(x_and_target[1], error, head.rule))

    for _ in range(ahead):
        send_next()
    for step in range(first, last):
        losses = []
        for microbatch in range(microbatches):
            send_next()
            h = arriving.unpack(outputs.take())
            target = targets.popleft()
            loss, e = head.error(h, target, step, microbatch)
            if not foretold(head.rule):
                errors.send(broadcast(e, target, head.rule))
            outputs.release()
            losses.append(loss)
            inputs.keep(at_most=ahead + 1)
            errors.keep(at_most=2)
        head.apply_gradients(step)
        on_step(step, sum(losses) / len(losses))
    inputs.keep(at_most=0)
    errors.keep(at_most=0)


def evaluate_segment(
    head: Head,
    group: Group,
    arriving: FlowSpec,
    parts: Iterator[tuple[Tensor, Tensor]],
    sizes: Sequence[int],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run parts of these sizes through the blocks; yield (head output, target) of each."""
    blocks = group.world - 1
    ahead = blocks + 2
    inputs = Outbox(group, to=1)
    outputs = Inbox(group, blocks, arriving.message, sizes, slots=2)
    targets: deque[Tensor] = deque()
    for index in range(len(sizes) + ahead):
        if index < len(sizes):
            x, target = next(parts)
            inputs.send(x)
            targets.append(target)
        if index >= ahead:
            yield head.evaluate(arriving.unpack(outputs.take())), targets.popleft()
            outputs.release()
            inputs.keep(at_most=ahead)
    inputs.keep(at_most=0)
