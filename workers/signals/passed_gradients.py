"""The gradients of backpropagation: from the head to the last block, and on to the first one."""

from dfa_core import Activations
from dfa_core.passed_gradients import gradient_spec
from workers.heads.hosted_head import HostedHead
from workers.links import Inbox, InboxesInTurn, Outbox
from workers.memberships import Memberships
from workers.stage import StageContext


class PassedGradients:
    """The gradients of a segment's microbatches: of this block's outputs, and of its inputs."""

    def __init__(
        self,
        stage: StageContext,
        groups: Memberships,
        hosted: HostedHead | None,
        steps: int,
        waiting: int,
    ) -> None:
        """hosted: the head, if it is in this process.

        waiting: microbatches that may wait for their gradient.
        """
        self._waiting = waiting
        self._of_outputs, self._of_inputs = gradient_spec(stage.leaving), None
        self._messages: HostedHead | InboxesInTurn | None = None
        if self._of_outputs is not None:
            self._messages = hosted or _arriving(stage, groups, steps, waiting)
        self._to: Outbox | None = None
        if stage.block > 1:
            self._of_inputs = gradient_spec(stage.arriving)
            self._to = Outbox(groups.of_blocks, stage.block - 1)

    def take(self) -> Activations | None:
        """Wait for the gradient of the next output; None where outputs have none."""
        if self._messages is None or self._of_outputs is None:
            return None
        return self._of_outputs.unpack(self._messages.take())

    def pass_on(self, gradients: Activations | None) -> None:
        """Send the gradient of an input to the block before; let one more of an output come."""
        if self._to is not None and self._of_inputs is not None and gradients is not None:
            self._to.send(self._of_inputs.pack(gradients))
            self._to.keep(at_most=self._waiting + 1)
        if self._messages is not None:
            self._messages.release()

    def finish(self) -> None:
        """Wait until the block before has all."""
        if self._to is not None:
            self._to.finish()


def _arriving(stage: StageContext, groups: Memberships, steps: int, waiting: int) -> InboxesInTurn:
    """Return where the gradients come from: the next block, the coordinator, or heads in turn."""
    turns = [0] * stage.microbatches
    sources = [(groups.of_blocks, stage.gradients_from)]
    if stage.is_last and stage.grid.heads:
        turns, sources = stage.heads_in_turn, [(group, 0) for group in groups.errors]
    spec = (gradient_spec(stage.leaving) or stage.leaving).message
    boxes = [
        Inbox(group, rank, spec, [stage.samples] * (steps * turns.count(h)), slots=waiting)
        for h, (group, rank) in enumerate(sources)
    ]
    return InboxesInTurn(boxes, turns)
