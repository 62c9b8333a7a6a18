"""A copy of the head in a worker: it learns from outputs, and broadcasts their errors."""

import torch
from torch import Tensor

from dfa_core import Head
from dfa_core.signals import broadcast, known_before_forward, message
from workers.heads.target_message import LOSS, target_message, unpack_target
from workers.links import Inbox, Outbox, under_way
from workers.memberships import Memberships
from workers.replicas import ReplicaSum
from workers.stage import StageContext
from workers.trace import Tracer


class HeadCopy:
    """Computes head and loss of its microbatches in a segment.

    The coordinator sends the targets, and gets the losses of each step.
    """

    def __init__(
        self,
        head: Head,
        stage: StageContext,
        groups: Memberships,
        copies: ReplicaSum | None,
        tracer: Tracer,
        steps: range,
        waiting: int,
    ) -> None:
        """copies: sums the gradients over all copies of the head; None where there is only one.

        waiting: microbatches that may wait at a block for their error.
        """
        self._head, self._stage, self._copies, self._tracer = head, stage, copies, tracer
        own = [m for m, h in enumerate(stage.heads_in_turn) if h == stage.head_number]
        self._last, self.messages = own[-1], len(steps) * len(own)
        self._numbers = iter((step, m) for step in steps for m in own)
        spec, sizes = target_message(stage.target), [stage.samples] * self.messages
        rank0 = groups.of_head
        slots = under_way(stage.grid.blocks, waiting)
        self._targets = Inbox(rank0, 0, spec, sizes, slots)
        self._losses = Outbox(rank0, to=0)
        sends = groups.errors if stage.errors_from_workers else ()
        self._errors = [Outbox(group, to=None) for group in sends]
        self._of_step: list[float] = []
        self._summing: int | None = None  # the step whose gradients the copies sum

    def learn(self, output: Tensor) -> Tensor | None:
        """Learn from the message of the next output, and broadcast its error.

        Returns the error's message; None where blocks learn from the target alone.

        Raises NonFiniteLoss and JobError as Head.error() does.
        """
        step, m = next(self._numbers)
        head, stage, microbatch = self._head, self._stage, self._stage.microbatch(m)
        target, share = unpack_target(self._targets.take(), stage.target)
        self._targets.release()
        self._apply_sum()
        with self._tracer.span("head", step, microbatch):
            loss, e = head.error(stage.leaving.unpack(output), target, step, microbatch, share)
            head.check_error(e, stage.samples, stage.error, step)
        signal = None
        if not known_before_forward(stage.rule):
            signal = message(broadcast(e, target, stage.rule), stage.rule, step, microbatch)
            for outbox in self._errors:
                outbox.send(signal)
        self._of_step.append(loss)
        if m == self._last:
            self._end(step)
        return signal

    def _end(self, step: int) -> None:
        """Take the optimizer step, now or, among copies, when their gradients are summed."""
        self._losses.send(torch.tensor(self._of_step, dtype=LOSS.dtype))
        self._of_step.clear()
        if self._copies is None:
            self._head.apply_gradients(step)
        else:
            # now: another copy may wait for this one's statistics before this one gets an output
            self._copies.begin(self._head, step)
            self._copies.begin_statistics(self._head)
            self._summing = step

    def _apply_sum(self) -> None:
        if self._copies is not None and self._summing is not None:
            self._copies.end(self._head, self._summing)
            self._head.apply_gradients(self._summing)
            self._summing = None

    def keep(self, at_most: int) -> None:
        """Wait until at most this many errors are on their way to the blocks."""
        for outbox in self._errors:
            outbox.keep(at_most)

    def finish(self) -> None:
        """End the last step, and wait until all messages have been read."""
        self.keep(at_most=0)
        self._apply_sum()
        self._losses.keep(0)
