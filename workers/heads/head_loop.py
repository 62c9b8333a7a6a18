"""The loop of a worker that hosts a copy of the head and nothing else."""

from collections.abc import Sequence

from torch import Tensor

from dfa_core import ActivationSpec, Head
from workers.heads.head_copy import HeadCopy
from workers.heads.measured_outputs import MeasuredOutputs
from workers.links import Inbox, Outbox, under_way
from workers.memberships import Memberships
from workers.replicas import ReplicaSum
from workers.stage import StageContext
from workers.trace import Tracer


def train_segment(
    head: Head,
    stage: StageContext,
    groups: Memberships,
    tracer: Tracer,
    steps: range,
    waiting: int,
) -> None:
    """Train these steps: the head's microbatches, in the order in which the last block sends them.

    The copies of the head sum their gradients while the outputs of the next step arrive.

    waiting: microbatches that may wait at a block for their error.
    """
    copies = ReplicaSum(groups.copies) if groups.copies else None
    copy = HeadCopy(head, stage, groups, copies, tracer, steps, waiting)
    sizes = [stage.samples] * copy.messages
    last = stage.grid.blocks
    slots = under_way(last, waiting)
    outputs = Inbox(groups.errors[0], last, stage.leaving.message, sizes, slots)
    for _ in sizes:
        copy.learn(outputs.take())
        outputs.release()
        copy.keep(at_most=waiting)
    copy.finish()
    if copies:
        copies.finish()


def evaluate_segment(
    head: Head,
    stage: StageContext,
    groups: Memberships,
    sizes: Sequence[int],
    to: Outbox | MeasuredOutputs,
) -> None:
    """Compute the head's output of chunks of these sizes, in evaluation mode.

    to: what takes the outputs.
    """
    outputs = Inbox(groups.errors[0], stage.grid.blocks, stage.leaving.message, sizes, slots=2)
    for _ in sizes:
        to.send(scored(head, stage, outputs.take()))
        outputs.release()
        to.keep(at_most=2)
    to.finish()


def scored(head: Head, stage: StageContext, h: Tensor) -> Tensor:
    """Return the head's output of a message. Raises JobError when it has not the form agreed."""
    output = head.evaluate(stage.leaving.unpack(h))
    ActivationSpec((stage.output,)).check(output, f"{head.label} in evaluation")
    return output
