"""Rank 0's loops in an evaluation: it feeds the blocks, and takes the head's outputs or none."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, cycle
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.head_links import outputs_of
from coordinator.engine.rank0 import Rank0, ReplicaGroups, ReplicaLinks
from dfa_core import ActivationSpec, JobError, TensorSpec
from dfa_core.activations import tensors
from dfa_tasks.source import chunks
from workers.heads.target_message import pack_rows
from workers.links import Outbox, OutboxesInTurn


class Parts:
    """The parts of a data set, one after another, all of one form.

    sizes: samples of each. x, target: the form of a sample's input and target.
    """

    def __init__(self, data: Dataset[Any], at_once: int, seed: int) -> None:
        """Read the first part. Raises JobError when its samples fail."""
        full, rest = divmod(len(data), at_once)  # type: ignore[arg-type]
        self.sizes = [at_once] * full + ([rest] if rest else [])
        coming = chunks(data, at_once, seed)
        first = next(coming)
        self.x, self.target = (TensorSpec.of(tensor) for tensor in first)
        self._coming = chain([first], coming)

    def each(
        self, arriving: ActivationSpec, targets_too: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets) of each part. Raises JobError for samples of another form.

        targets_too: targets of another form are an error as well, since they travel.
        """
        samples = 0
        for x, target in self._coming:
            where = f"samples {samples} to {samples + len(x) - 1}"
            arriving.check(x, where)
            if targets_too and TensorSpec.of(target) != self.target:
                raise JobError(
                    f"{where} have targets of {TensorSpec.of(target)}, those before "
                    f"{self.target}; targets must keep their form"
                )
            samples += len(x)
            yield x, target


def evaluate_segment(
    rank0: Rank0,
    groups: Sequence[ReplicaGroups],
    chunks: Iterator[tuple[Tensor, Tensor]],
    sizes: Sequence[int],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run chunks (inputs, target) through the blocks; yield (head output, target) of each.

    groups: of each replica; the chunks go to them in turn.
    sizes: samples of each chunk.
    """
    arriving, replicas = rank0.arriving, len(groups)
    ahead = groups[0].blocks.world + 1 + len(groups[0].heads)
    all_links = [ReplicaLinks(group.blocks, rank0.rule) for group in groups]
    inboxes = [
        outputs_of(group, arriving, sizes[r::replicas], slots=2) for r, group in enumerate(groups)
    ]
    sending, taking = cycle(all_links), cycle(zip(all_links, inboxes, strict=True))
    targets: deque[Tensor] = deque()
    for index in range(len(sizes) + ahead * replicas):
        if index < len(sizes):
            with rank0.waits.on("the data of an evaluation"):
                x, target = next(chunks)
            next(sending).inputs.send(x)
            targets.append(target)
        if index >= ahead * replicas:
            links, inbox = next(taking)
            h = arriving.unpack(inbox.take())
            output = h if rank0.head is None else rank0.head.evaluate(h)
            yield tensors(output)[0].cpu(), targets.popleft()
            inbox.release()
            links.inputs.keep(at_most=ahead)
    for links in all_links:
        links.inputs.finish()


def feed_evaluation(
    rank0: Rank0,
    groups: Sequence[ReplicaGroups],
    parts: Iterator[tuple[Tensor, Tensor]],
    sizes: Sequence[int],
) -> None:
    """Run parts (inputs, target) through the blocks; the hosts of the head measure its outputs.

    groups: of each replica; the parts go to them in turn, and to the heads of each in turn.
    sizes: samples of each part.
    """
    replicas, heads, ahead = len(groups), len(groups[0].heads), groups[0].blocks.world + 1
    all_links = [ReplicaLinks(group.blocks, rank0.rule) for group in groups]
    hosts = [Outbox(host, to=1) for h in range(heads) for host in (g.heads[h] for g in groups)]
    targets, sending = OutboxesInTurn(hosts, range(replicas * heads)), cycle(all_links)
    for _ in sizes:
        with rank0.waits.on("the data of an evaluation"):
            x, target = next(parts)
        links = next(sending)
        links.inputs.send(x)
        targets.send(pack_rows(target))
        links.inputs.keep(at_most=ahead)
        targets.keep(at_most=ahead)
    for links in all_links:
        links.inputs.finish()
    targets.finish()
