"""A copy of the head in a worker: it learns from outputs, and sends what blocks learn from."""

import torch
from torch import Tensor

from dfa_core import Head
from dfa_core.signals import head_learns
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
        sends = groups.errors if stage.signals_from_workers else ()
        to = stage.grid.blocks if stage.rule.method == "bp" else None
        self._signals = [Outbox(group, to) for group in sends]
        self._of_step: list[float] = []
        self._summing: int | None = None  # the step whose optimizer step waits for the copies' sum

    def learn(self, output: Tensor) -> Tensor | None:
        """Learn from the message of the next output, and send the blocks what they learn from.

        Returns that message; None where they need none.

        Raises NonFiniteLoss and JobError as Head.error() does.
        """
        step, m = next(self._numbers)
        head, stage, microbatch = self._head, self._stage, self._stage.microbatch(m)
        target, share = unpack_target(self._targets.take(), stage.target)
        self._targets.release()
        self._apply_sum()
        with self._tracer.span("head", step, microbatch):
            h = stage.leaving.unpack(output)
            loss, signal = head_learns(
                head, h, target, step, microbatch, share, stage.samples, stage.error
            )
        signal = signal if stage.blocks_learn else None
        if signal is not None:
            for outbox in self._signals:
                outbox.send(signal)
        self._of_step.append(loss)
        if m == self._last:
            self._end(step)
        return signal

    def _end(self, step: int) -> None:
        """Take the optimizer step, now or, among copies, when their gradients are summed."""
        self._losses.send(torch.tensor(self._of_step, dtype=LOSS.dtype))
        self._of_step.clear()
        due = step - self._stage.rule.head_staleness
        if self._copies is not None:
            self._copies.begin(self._head, step)
        if due < 0:
            return
        if self._copies is None:
            self._head.apply_gradients(due)
        else:
            # now: another copy may wait for this one's statistics before this one gets an output
            self._copies.begin_statistics(self._head)
            self._summing = due

    def _apply_sum(self) -> None:
        if self._copies is not None and self._summing is not None:
            self._copies.end(self._head, self._summing)
            self._head.apply_gradients(self._summing)
            self._summing = None

    def keep(self, at_most: int) -> None:
        """Wait until at most this many signals are on their way to the blocks."""
        for outbox in self._signals:
            outbox.keep(at_most)

    def finish(self) -> None:
        """End the last step, and wait until all messages have been read."""
        self.keep(at_most=0)
        self._apply_sum()
        self._losses.keep(0)
