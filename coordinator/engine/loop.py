"""The coordinator's loop: rank 0 feeds the blocks; it computes the error too if it has the head."""

from collections.abc import Callable, Sequence
from itertools import cycle

from coordinator.engine.head_links import HeadLinks, outputs_of
from coordinator.engine.rank0 import Feed, Rank0, ReplicaGroups, ReplicaLinks
from dfa_core import Head
from dfa_core.microbatch import Share, batch_mean
from dfa_core.signals import head_learns
from workers.heads.target_message import pack_target
from workers.links import under_way

OnStep = Callable[[int, float], None]


def train_segment(
    rank0: Rank0, head: Head, groups: Sequence[ReplicaGroups], steps: range, on_step: OnStep
) -> None:
    """Train these steps with the head in this process, together with the blocks' own loops.

    groups: of each replica; the microbatches of a batch go to them in turn.
    on_step: called with each step and its loss.

    Raises NonFiniteLoss, and GroupLeft when a block is gone.
    """
    rule, arriving, replicas = rank0.rule, rank0.arriving, len(groups)
    samples = rank0.prefetcher.samples
    sizes = [samples] * (len(steps) * rule.microbatches // replicas)
    all_links = [ReplicaLinks(group.blocks, rank0.rule) for group in groups]
    ahead = rank0.ahead

    feed, taking = Feed(rank0, groups, all_links, steps), cycle(all_links)
    slots = under_way(groups[0].blocks.world - 1, rank0.waiting)
    outputs = cycle([outputs_of(group, arriving, sizes, slots) for group in groups])
    for _ in range(ahead * replicas):
        feed.send_next()
    for step in steps:
        losses: list[tuple[float, Share]] = []
        for microbatch in range(rule.microbatches):
            feed.send_next()
            links, inbox = next(taking), next(outputs)
            h = arriving.unpack(inbox.take())
            fed = feed.take()
            target = fed.target.to(head.device, non_blocking=True)
            with rank0.tracer.span("head", step, microbatch):
                loss, signal = head_learns(
                    head, h, target, step, microbatch, fed.share, samples, rank0.error
                )
            if signal is not None and rank0.blocks_learn:
                links.signals.send(signal)
            inbox.release()
            losses.append((loss, fed.share))
            links.inputs.keep(at_most=ahead + 1)
            links.signals.keep(at_most=slots)
        if step >= rule.head_staleness:
            head.apply_gradients(step - rule.head_staleness)
        on_step(step, batch_mean(losses))
    for links in all_links:
        links.inputs.finish()
        links.signals.finish()


def feed_segment(
    rank0: Rank0, groups: Sequence[ReplicaGroups], steps: range, on_step: OnStep
) -> None:
    """Feed the workers in these steps; they compute the head too.

    groups, on_step: as train_segment() has them.

    Raises GroupLeft when a worker is gone.
    """
    microbatches, replicas = rank0.rule.microbatches, len(groups)
    ahead = rank0.ahead
    all_links = [ReplicaLinks(group.blocks, rank0.rule) for group in groups]
    heads = HeadLinks(groups, rank0.rule.microbatches, len(steps))

    feed, sending = Feed(rank0, groups, all_links, steps), cycle(all_links)

    def send_next() -> None:
        sent = feed.send_next()
        if sent is not None:
            links = next(sending)
            heads.targets.send(pack_target(sent.target, sent.share))
            for sent_on in (links.inputs, links.signals, heads.targets):
                sent_on.keep(at_most=ahead + 1)

    for _ in range(ahead * replicas):
        send_next()
    for step in steps:
        for _ in range(microbatches):
            send_next()
        on_step(step, batch_mean([(loss, feed.take().share) for loss in heads.losses()]))
    for links in all_links:
        links.inputs.finish()
        links.signals.finish()
    heads.targets.finish()
