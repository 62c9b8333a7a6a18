"""A block's loop: forwards and local updates of one segment, in the order of the schedule."""

from collections.abc import Sequence

from torch import Tensor

from dfa_core import (
    Activations,
    ActivationSpec,
    Block,
    Forward,
    Head,
    Step,
    Update,
    block_actions,
    in_flight,
)
from dfa_core.signals import known_before_forward
from workers.groups.group import Group
from workers.hosted_head import HostedHead
from workers.links import ErrorInbox, Inbox, Outbox
from workers.memberships import Memberships
from workers.replicas import ReplicaSum
from workers.stage import StageContext
from workers.trace import Tracer


def train_segment(
    block: Block,
    head: Head | None,
    stage: StageContext,
    groups: Memberships,
    tracer: Tracer,
    steps: range,
) -> None:
    """Train these steps: everything that a block does between two events.

    head: if this worker hosts it.
    """
    rule, microbatches = stage.rule, stage.microbatches
    messages = len(steps) * microbatches
    waiting = in_flight(stage.blocks, microbatches, rule.staleness)
    replicas = ReplicaSum(groups.replicas) if groups.replicas else None

    arriving, sizes = stage.arriving, [stage.samples] * messages
    inputs = Inbox(groups.blocks, stage.block - 1, arriving.message, sizes, slots=waiting + 2)
    hosted = HostedHead(head, stage, groups, replicas, tracer, steps) if head else None
    outputs = hosted or Outbox(groups.blocks, stage.next_rank)
    error_format = rule.feedback.sent_as
    errors = (
        hosted
        if hosted and not known_before_forward(rule)
        else ErrorInbox(groups.errors, error_format.message(stage.error), stage.samples, messages)
    )

    actions = block_actions(stage.blocks, microbatches, steps.start, steps.stop, rule.staleness)
    for action in actions:
        match action:
            case Forward(step, m):
                x = arriving.unpack(inputs.take())
                with tracer.span("forward", step, stage.microbatch(m)):
                    h = block.forward(x, step, stage.microbatch(m))
                outputs.send(_checked(block, stage, h, f"at step {step}"))
            case Update(step, m):
                e = error_format.decode(errors.take(), stage.error)
                each = replicas.begin if replicas and m == microbatches - 1 else None
                with tracer.span("update", step, stage.microbatch(m)):
                    block.update(e, step, stage.microbatch(m), each)
                errors.release()
                inputs.release()
                outputs.keep(at_most=waiting)
            case Step(step):
                with tracer.span("optimizer", step):
                    block.step(step, replicas.end if replicas else None)
    outputs.keep(at_most=0)
    if replicas:
        replicas.finish()


def evaluate_segment(
    block: Block, head: Head | None, stage: StageContext, group: Group, sizes: Sequence[int]
) -> None:
    """Run chunks of these sizes forward through the block, in evaluation mode.

    head: if this worker hosts it; the coordinator then gets its outputs.
    """
    arriving = stage.arriving
    inputs = Inbox(group, stage.block - 1, arriving.message, sizes, slots=2)
    outputs = Outbox(group, stage.next_rank)
    for _ in sizes:
        x = arriving.unpack(inputs.take())
        h = _checked(block, stage, block.evaluate(x), "in evaluation")
        outputs.send(h if head is None else _scored(head, stage, h))
        inputs.release()
        outputs.keep(at_most=2)
    outputs.keep(at_most=0)


def _checked(block: Block, stage: StageContext, h: Activations, when: str) -> Tensor:
    """Return the message of what a block gave. Raises JobError when it has not the form agreed."""
    stage.leaving.check(h, f"{block.layers[-1].label} {when}")
    return stage.leaving.pack(h)


def _scored(head: Head, stage: StageContext, h: Tensor) -> Tensor:
    """Return the head's output. Raises JobError when it has not the form agreed."""
    output = head.evaluate(stage.leaving.unpack(h))
    ActivationSpec((stage.output,)).check(output, f"{head.label} in evaluation")
    return output
