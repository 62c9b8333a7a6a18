"""The global error, which the head's process broadcasts to all blocks."""

from torch import Tensor

from dfa_core import Activations, TensorSpec
from dfa_core.feedback.error_format import ErrorFormat
from workers.heads.hosted_head import HostedHead
from workers.links import Inbox, InboxesInTurn
from workers.memberships import Memberships
from workers.stage import StageContext


class GlobalErrors:
    """The errors of a segment's microbatches, as this block gets them."""

    def __init__(
        self,
        stage: StageContext,
        groups: Memberships,
        hosted: HostedHead | None,
        steps: int,
        waiting: int,
    ) -> None:
        """hosted: the head, if it is in this process and its errors need not travel.

        waiting: microbatches that may wait for their error.
        """
        self._format: ErrorFormat = stage.rule.feedback.sent_as
        self._form: TensorSpec = stage.error
        spec = self._format.message(stage.error)
        self._messages = hosted or _broadcasts(stage, groups, spec, steps, waiting)

    def take(self) -> Tensor:
        """Wait for the next error and return it."""
        return self._format.decode(self._messages.take(), self._form)

    def pass_on(self, _: Activations | None) -> None:
        """Let one more error come: the block has learned from one."""
        self._messages.release()

    def finish(self) -> None:
        """Do nothing: nothing is sent from here."""


def _broadcasts(
    stage: StageContext, groups: Memberships, spec: TensorSpec, steps: int, waiting: int
) -> InboxesInTurn:
    """Return where the errors come from: the coordinator, the last block, or heads in turn."""
    sources, turns = groups.errors, stage.heads_in_turn
    if not stage.signals_from_workers:
        sources, turns = (groups.of_blocks,), [0] * stage.microbatches
    boxes = [
        Inbox(source, None, spec, [stage.samples] * (steps * turns.count(h)), slots=waiting)
        for h, source in enumerate(sources)
    ]
    return InboxesInTurn(boxes, turns)
