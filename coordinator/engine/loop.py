"""The coordinator's loop: rank 0 feeds the blocks, computes the global error and broadcasts it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from torch import Tensor

from coordinator.engine.prefetcher import Prefetcher
from coordinator.engine.waits import Waits
from dfa_core import ActivationSpec, Head, JobError, TensorSpec, in_flight
from dfa_core.microbatch import Microbatch, Share, batch_mean
from dfa_core.signals import broadcast, known_before_forward, message, of_target
from workers.groups.group import Group
from workers.links import Inbox, Outbox
from workers.trace import Tracer

OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class HeadContext:
    """What rank 0 works with in all segments.

    prefetcher: makes the microbatches.
    arriving: the activations that the last block sends.
    error: the global error, before it is encoded.
    waits: reports when data are slow.
    """

    head: Head
    prefetcher: Prefetcher
    arriving: ActivationSpec
    error: TensorSpec
    tracer: Tracer
    waits: Waits


class ReplicaLinks:
    """Rank 0's links with the blocks of one replica."""

    def __init__(
        self, group: Group, arriving: ActivationSpec, sizes: Sequence[int], slots: int
    ) -> None:
        """sizes: samples of each message that the last block will send."""
        self.inputs = Outbox(group, to=1)
        self.outputs = Inbox(group, group.world - 1, arriving.message, sizes, slots)
        self.errors = Outbox(group, to=None)


class Feed:
    """Sends the microbatches of a segment to the replicas in turn, and keeps them for the head.

    Where the broadcast is known from the target alone, it is sent with the microbatch.
    """

    def __init__(
        self, context: HeadContext, all_links: Sequence[ReplicaLinks], steps: range
    ) -> None:
        head = context.head
        self._rule, self._error, self._waits = head.rule, context.error, context.waits
        self._coming = context.prefetcher.microbatches(steps.start, steps.stop, head.loss)
        first = steps.start * self._rule.microbatches
        self._numbers = iter(range(first, steps.stop * self._rule.microbatches))
        self._links = cycle(all_links)
        self._sent: deque[Microbatch] = deque()

    def send_next(self) -> None:
        """Send one more microbatch, if there is one."""
        number = next(self._numbers, None)
        if number is None:
            return
        step, microbatch = divmod(number, self._rule.microbatches)
        with self._waits.on("the data", f"of step {step}"):
            coming = next(self._coming)
        links = next(self._links)
        links.inputs.send(coming.x)
        self._sent.append(coming)
        if known_before_forward(self._rule):
            signal = of_target(coming.target, self._error, self._rule)
            links.errors.send(message(signal, self._rule, step, microbatch))

    def take(self) -> Microbatch:
        """Return the oldest microbatch that was not taken yet."""
        return self._sent.popleft()


def train_segment(
    context: HeadContext, groups: Sequence[Group], steps: range, on_step: OnStep
) -> None:
    """Train these steps, together with the blocks' own loops.

    groups: one a replica; the microbatches of a batch go to them in turn.
    on_step: called with each step and its loss.

    Raises NonFiniteLoss, and GroupLeft when a block is gone.
    """
    head, rule, arriving = context.head, context.head.rule, context.arriving
    microbatches, replicas = rule.microbatches, len(groups)
    sizes = [context.prefetcher.samples] * (len(steps) * microbatches // replicas)
    all_links = [ReplicaLinks(group, arriving, sizes, slots=3) for group in groups]
    # as many as block 1 has receives posted
    ahead = in_flight(groups[0].world - 1, microbatches // replicas, rule.staleness) + 2

    feed, taking = Feed(context, all_links, steps), cycle(all_links)
    for _ in range(ahead * replicas):
        feed.send_next()
    for step in steps:
        losses: list[tuple[float, Share]] = []
        for microbatch in range(microbatches):
            feed.send_next()
            links = next(taking)
            h = arriving.unpack(links.outputs.take())
            fed = feed.take()
            target = fed.target.to(head.device, non_blocking=True)
            with context.tracer.span("head", step, microbatch):
                loss, e = head.error(h, target, step, microbatch, fed.share)
                _check_error(context, e, step)
            if not known_before_forward(rule):
                links.errors.send(message(broadcast(e, target, rule), rule, step, microbatch))
            links.outputs.release()
            losses.append((loss, fed.share))
            links.inputs.keep(at_most=ahead + 1)
            links.errors.keep(at_most=2)
        head.apply_gradients(step)
        on_step(step, batch_mean(losses))
    for links in all_links:
        links.inputs.keep(at_most=0)
        links.errors.keep(at_most=0)


def evaluate_segment(
    context: HeadContext,
    groups: Sequence[Group],
    chunks: Iterator[tuple[Tensor, Tensor]],
    sizes: Sequence[int],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run chunks (inputs, target) through the blocks; yield (head output, target) of each.

    groups: one a replica; the chunks go to them in turn.
    sizes: samples of each chunk.
    """
    arriving, replicas, ahead = context.arriving, len(groups), groups[0].world + 1
    all_links = [
        ReplicaLinks(group, arriving, sizes[r::replicas], slots=2) for r, group in enumerate(groups)
    ]
    sending, taking = cycle(all_links), cycle(all_links)
    targets: deque[Tensor] = deque()
    for index in range(len(sizes) + ahead * replicas):
        if index < len(sizes):
            with context.waits.on("the data of an evaluation"):
                x, target = next(chunks)
            next(sending).inputs.send(x)
            targets.append(target)
        if index >= ahead * replicas:
            links = next(taking)
            h = arriving.unpack(links.outputs.take())
            yield context.head.evaluate(h).cpu(), targets.popleft()
            links.outputs.release()
            links.inputs.keep(at_most=ahead)
    for links in all_links:
        links.inputs.keep(at_most=0)


def of_one_form(
    chunks: Iterator[tuple[Tensor, Tensor]], form: ActivationSpec
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks (inputs, targets) as long as their samples have this form. Raises JobError."""
    samples = 0
    for x, target in chunks:
        form.check(x, f"samples {samples} to {samples + len(x) - 1}")
        samples += len(x)
        yield x, target


def _check_error(context: HeadContext, e: Tensor, step: int) -> None:
    """Raise JobError if a microbatch's error is not what the blocks have room for."""
    expected = (context.prefetcher.samples, context.error)
    found = (len(e), TensorSpec.of(e))
    if found != expected:
        raise JobError(
            f"at step {step}, the error of {context.head.label} has {found[0]} samples of "
            f"{found[1]}, the step before had {expected[0]} of {expected[1]}; the head's "
            f"{context.head.rule.error_at} must keep its form"
        )
