"""The head in the worker of the last block, as both ends of that block's links.

The block "sends" its outputs to the head in its own process, and "receives" the errors from it. The
other blocks get each error by a broadcast. The coordinator sends the targets, and gets the losses.
"""

from collections import deque

import torch
from torch import Tensor

from dfa_core import Head, TensorSpec
from dfa_core.microbatch import Share
from dfa_core.signals import broadcast, known_before_forward, message
from workers.links import Inbox, Outbox
from workers.memberships import Memberships
from workers.replicas import ReplicaSum
from workers.stage import StageContext
from workers.trace import Tracer

LOSS = TensorSpec((), torch.float64)  # of a microbatch
_SHARE_BYTES = 16  # its weight and the total, as float64


def target_message(target: TensorSpec) -> TensorSpec:
    """Return the spec of the message in which a sample's target travels."""
    return TensorSpec((target.bytes + _SHARE_BYTES,), torch.uint8)


def pack_target(target: Tensor, share: Share) -> Tensor:
    """Return a microbatch's targets and its share as one message, a row of bytes a sample."""
    rows = target.reshape(len(target), -1).contiguous().view(torch.uint8)
    of_batch = torch.tensor([share.weight, share.total], dtype=torch.float64).view(torch.uint8)
    return torch.cat([rows, of_batch.expand(len(target), -1)], dim=1)


def unpack_target(packed: Tensor, target: TensorSpec) -> tuple[Tensor, Share]:
    """Return what pack_target() was given."""
    rows, of_batch = packed[:, :-_SHARE_BYTES], packed[0, -_SHARE_BYTES:]
    weight, total = of_batch.clone().view(torch.float64).tolist()
    own = rows.clone(memory_format=torch.contiguous_format).view(target.dtype)
    return own.view(len(packed), *target.shape), Share(weight, total)


class HostedHead:
    """Takes the outputs of the last block in a segment; gives the block its errors."""

    def __init__(
        self,
        head: Head,
        stage: StageContext,
        groups: Memberships,
        replicas: ReplicaSum | None,
        tracer: Tracer,
        steps: range,
    ) -> None:
        """replicas: sums the head's gradients over the replicas; None where there is only one."""
        if groups.head is None:
            raise ValueError("the worker that hosts the head has joined no group with rank 0")
        self._head, self._stage, self._replicas, self._tracer = head, stage, replicas, tracer
        messages = len(steps) * stage.microbatches
        self._numbers = iter((step, m) for step in steps for m in range(stage.microbatches))
        spec, sizes = target_message(stage.target), [stage.samples] * messages
        self._targets = Inbox(groups.head, 0, spec, sizes, slots=3)
        self._losses = Outbox(groups.head, to=0)
        self._others = Outbox(groups.errors, to=None) if stage.errors_from_last_block else None
        self._errors: deque[Tensor] = deque()
        self._of_step: list[float] = []
        self._summing: int | None = None  # the step whose gradients the replicas sum

    def send(self, output: Tensor) -> None:
        """Take the message of the block's next output: learn from it, and broadcast its error.

        Raises NonFiniteLoss and JobError as Head.error() does.
        """
        step, m = next(self._numbers)
        head, stage, microbatch = self._head, self._stage, self._stage.microbatch(m)
        target, share = unpack_target(self._targets.take(), stage.target)
        self._targets.release()
        with self._tracer.span("head", step, microbatch):
            self._apply_sum()
            loss, e = head.error(stage.leaving.unpack(output), target, step, microbatch, share)
            head.check_error(e, stage.samples, stage.error, step)
        if not known_before_forward(stage.rule):
            signal = message(broadcast(e, target, stage.rule), stage.rule, step, microbatch)
            self._errors.append(signal)
            if self._others is not None:
                self._others.send(signal)
        self._of_step.append(loss)
        if m == stage.microbatches - 1:
            self._end(step)

    def _end(self, step: int) -> None:
        """Take the optimizer step, now or, among replicas, when their gradients are summed."""
        self._losses.send(torch.tensor(self._of_step, dtype=LOSS.dtype))
        self._of_step.clear()
        if self._replicas is None:
            self._head.apply_gradients(step)
        else:
            self._replicas.begin(self._head, step)
            self._summing = step

    def _apply_sum(self) -> None:
        if self._replicas is not None and self._summing is not None:
            self._replicas.end(self._head, self._summing)
            self._head.apply_gradients(self._summing)
            self._summing = None

    def keep(self, at_most: int) -> None:
        """Wait until at most this many errors are on their way to the other blocks.

        After the last output, 0 also ends the head's last step.
        """
        if self._others is not None:
            self._others.keep(at_most)
        if at_most == 0:
            self._apply_sum()
            self._losses.keep(0)

    def take(self) -> Tensor:
        """Return the message of the next error, for the block itself."""
        return self._errors.popleft()

    def release(self) -> None:
        """Do nothing: no message has to arrive for the next error."""
