"""A block's loop: forwards and local updates of one segment, in the order of the schedule."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from dfa_core import Activations, Forward, Head, Step, Update
from dfa_core.block import LayersInOrder, OnLayer
from dfa_core.block.hopping_block import HoppingBlock
from dfa_core.schedule import InputGradients, WeightGradients
from dfa_core.signals import known_before_forward
from workers.heads.head_copy import HeadCopy
from workers.heads.head_loop import scored
from workers.heads.hosted_head import HostedHead
from workers.heads.measured_outputs import MeasuredOutputs
from workers.links import Inbox, Outbox, OutboxesInTurn
from workers.memberships import Memberships
from workers.reading.own_inputs import OwnData, OwnInputs
from workers.replicas import ReplicaSum
from workers.signals.global_error import GlobalErrors
from workers.signals.later_sums import PassedSums
from workers.signals.passed_gradients import PassedGradients
from workers.stage import StageContext
from workers.trace import Tracer


def train_segment(
    block: LayersInOrder,
    head: Head | None,
    stage: StageContext,
    groups: Memberships,
    tracer: Tracer,
    steps: range,
    waiting: int,
    data: OwnData | None = None,
) -> None:
    """Train these steps: everything that a block does between two events.

    head: if this worker hosts it. waiting: microbatches that may wait for their error.
    data: if the block reads its inputs itself.
    """
    arriving, replicas = stage.arriving, ReplicaSum(groups.copies) if groups.copies else None

    inputs = _inputs(stage, groups, data, steps, waiting)
    copy = head and HeadCopy(head, stage, groups, replicas, tracer, steps, waiting)
    hosted = HostedHead(copy) if copy else None
    outputs = hosted or _outputs(stage, groups, stage.heads_in_turn)
    signals = _signals(stage, groups, hosted, len(steps), waiting)
    later = _later_sums(block, stage, groups, len(steps))

    def begin_sum(m: int) -> OnLayer | None:
        return replicas.begin if replicas and m == stage.microbatches - 1 else None

    for action in stage.actions(steps, waiting):
        match action:
            case Forward(step, m):
                x = arriving.unpack(inputs.take())
                with tracer.span("forward", step, stage.microbatch(m)):
                    h = block.forward(x, step, stage.microbatch(m))
                outputs.send(_checked(block, stage, h, f"at step {step}"))
                if signals is None:
                    inputs.release()
                    outputs.keep(at_most=waiting)
            case Update(step, m) | InputGradients(step, m) if signals is not None:
                signal, microbatch = signals.take(), stage.microbatch(m)
                with tracer.span("update", step, microbatch):
                    if isinstance(action, Update):
                        passed = block.update(signal, step, microbatch, begin_sum(m))
                    else:
                        passed = block.input_gradients(signal, step, microbatch)
                signals.pass_on(passed)
                inputs.release()
                outputs.keep(at_most=waiting)
            case WeightGradients(step, m):
                with tracer.span("weights", step, stage.microbatch(m)):
                    block.weight_gradients(step, stage.microbatch(m), begin_sum(m))
            case Step(step):
                with tracer.span("optimizer", step):
                    block.step(step, replicas.end if replicas else None)
    for end in (outputs, inputs, signals, later, replicas):
        if end is not None:
            end.finish()


def evaluate_segment(
    block: LayersInOrder,
    head: Head | None,
    stage: StageContext,
    groups: Memberships,
    sizes: Sequence[int],
    to: Outbox | MeasuredOutputs | None,
) -> None:
    """Run chunks of these sizes forward through the block, in evaluation mode.

    head: if this worker hosts it. to: what then takes its outputs.
    """
    arriving = stage.arriving
    inputs = Inbox(groups.of_blocks, stage.block - 1, arriving.message, sizes, slots=2)
    outputs = to or _outputs(stage, groups, range(stage.grid.heads))
    for _ in sizes:
        x = arriving.unpack(inputs.take())
        h = _checked(block, stage, block.evaluate(x), "in evaluation")
        outputs.send(h if head is None else scored(head, stage, h))
        inputs.release()
        outputs.keep(at_most=2)
    outputs.finish()


def _inputs(
    stage: StageContext, groups: Memberships, data: OwnData | None, steps: range, waiting: int
) -> Inbox | OwnInputs:
    """Return where a block's inputs come from: the rank before it, or its own reading."""
    if data is not None:
        return OwnInputs(data, groups.of_data, stage, steps, waiting)
    sizes = [stage.samples] * (len(steps) * stage.microbatches)
    before, spec = stage.block - 1, stage.arriving.message
    return Inbox(groups.of_blocks, before, spec, sizes, slots=waiting + 2)


def _outputs(
    stage: StageContext, groups: Memberships, turns: Iterable[int]
) -> Outbox | OutboxesInTurn:
    """Return where a block's outputs go: to the next rank, or to the heads in these turns."""
    if stage.is_last and stage.grid.heads:
        return OutboxesInTurn([Outbox(group, to=0) for group in groups.errors], turns)
    return Outbox(groups.of_blocks, stage.next_rank)


def _signals(
    stage: StageContext, groups: Memberships, hosted: HostedHead | None, steps: int, waiting: int
) -> GlobalErrors | PassedGradients | None:
    """Return where the block gets what it learns from; None where no block learns."""
    if not stage.blocks_learn:
        return None
    if stage.rule.method == "bp":
        return PassedGradients(stage, groups, hosted, steps, stage.waiting_here(waiting))
    own = None if known_before_forward(stage.rule) else hosted
    return GlobalErrors(stage, groups, own, steps, waiting)


def _later_sums(
    block: LayersInOrder, stage: StageContext, groups: Memberships, steps: int
) -> PassedSums | None:
    """Give a block whose feedback hops its link with later blocks, and return that."""
    if not isinstance(block, HoppingBlock):
        return None
    block.later = passed = PassedSums(stage, groups, steps)
    return passed


def _checked(block: LayersInOrder, stage: StageContext, h: Activations, when: str) -> Tensor:
    """Return the message of what a block gave. Raises JobError when it has not the form agreed."""
    stage.leaving.check(h, f"{block.layers[-1].label} {when}")
    return stage.leaving.pack(h)
