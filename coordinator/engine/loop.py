"""The coordinator's loop: rank 0 feeds the blocks, makes the global error, and broadcasts it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle

from torch import Tensor

from coordinator.engine.prefetcher import Prefetcher
from dfa_core import ActivationSpec, Head, TensorSpec, in_flight
from dfa_core.signals import broadcast, known_before_forward, message, of_target
from workers.group import Group
from workers.links import Inbox, Outbox

OnStep = Callable[[int, float], None]


class ReplicaLinks:
    """Rank 0's links with the blocks of one replica."""

    def __init__(
        self, group: Group, arriving: ActivationSpec, sizes: Sequence[int], slots: int
    ) -> None:
        """sizes: samples of each message that the last block will send."""
        self.inputs = Outbox(group, to=1)
        self.outputs = Inbox(group, group.world - 1, arriving.message, sizes, slots)
        self.errors = Outbox(group, to=None)


def train_segment(
    head: Head,
    groups: Sequence[Group],
    prefetcher: Prefetcher,
    arriving: ActivationSpec,
    error: TensorSpec,
    first: int,
    last: int,
    on_step: OnStep,
) -> None:
    """Train steps first..last-1, together with the blocks' own loops.

    groups: one a replica; a batch's microbatches go to them in turn.
    arriving: what the last block sends; error: what is broadcast; on_step: called with each step
    and its loss.

    Raises NonFiniteLoss, and GroupLeft when a block is gone.
    """
    microbatches, replicas, blocks = head.rule.microbatches, len(groups), groups[0].world - 1
    sizes = [prefetcher.samples] * ((last - first) * microbatches // replicas)
    # as many as block 1 has receives posted
    ahead = in_flight(blocks, microbatches // replicas, head.rule.staleness) + 2

    all_links = [ReplicaLinks(group, arriving, sizes, slots=3) for group in groups]
    sending, taking = cycle(all_links), cycle(all_links)
    coming = prefetcher.microbatches(first, last)
    targets: deque[Tensor] = deque()
    rule, numbers = head.rule, count(first * microbatches)

    def send_next() -> None:
        x_and_target = next(coming, None)
        if x_and_target is not None:
            (x, target), links, number = x_and_target, next(sending), next(numbers)
            links.inputs.send(x)
            targets.append(target)
            if known_before_forward(rule):
                signal = of_target(target, error, rule)
                links.errors.send(message(signal, rule, *divmod(number, microbatches)))

    for _ in range(ahead * replicas):
        send_next()
    for step in range(first, last):
        losses = []
        for microbatch in range(microbatches):
            send_next()
            links = next(taking)
            h = arriving.unpack(links.outputs.take())
            target = targets.popleft().to(head.device, non_blocking=True)
            loss, e = head.error(h, target, step, microbatch)
            if not known_before_forward(rule):
                links.errors.send(message(broadcast(e, target, rule), rule, step, microbatch))
            links.outputs.release()
            losses.append(loss)
            links.inputs.keep(at_most=ahead + 1)
            links.errors.keep(at_most=2)
        head.apply_gradients(step)
        on_step(step, sum(losses) / len(losses))
    for links in all_links:
        links.inputs.keep(at_most=0)
        links.errors.keep(at_most=0)


def evaluate_segment(
    head: Head,
    groups: Sequence[Group],
    arriving: ActivationSpec,
    parts: Iterator[tuple[Tensor, Tensor]],
    sizes: Sequence[int],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run parts of these sizes through the blocks; yield (head output, target) of each.

    groups: one a replica; they take the parts in turn.
    """
    replicas, ahead = len(groups), groups[0].world + 1
    all_links = [
        ReplicaLinks(group, arriving, sizes[r::replicas], slots=2) for r, group in enumerate(groups)
    ]
    sending, taking = cycle(all_links), cycle(all_links)
    targets: deque[Tensor] = deque()
    for index in range(len(sizes) + ahead * replicas):
        if index < len(sizes):
            x, target = next(parts)
            next(sending).inputs.send(x)
            targets.append(target)
        if index >= ahead * replicas:
            links = next(taking)
            yield head.evaluate(arriving.unpack(links.outputs.take())).cpu(), targets.popleft()
            links.outputs.release()
            links.inputs.keep(at_most=ahead)
    for links in all_links:
        links.inputs.keep(at_most=0)
