"""Records when a block and the head compute: what a timeline is drawn from."""

from dataclasses import dataclass
from time import time

from torch import Tensor

from dfa_core import Activations, Block, Head
from dfa_core.block import OnLayer


@dataclass(frozen=True)
class Span:
    """One piece of computing: what, of which step and microbatch, from when to when.

    start, end: seconds of the system's clock, which all processes of a node share.
    """

    what: str
    step: int
    microbatch: int
    start: float
    end: float


class TracedBlock(Block):
    """A block that notes each forward, update and optimizer step in `spans`."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.layers)
        self.untraced = block
        self.spans: list[Span] = []

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers."""
        start = time()
        h = self.untraced.forward(x, step, microbatch)
        self.spans.append(Span("forward", step, microbatch, start, time()))
        return h

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch."""
        start = time()
        self.untraced.update(error, step, microbatch, each)
        self.spans.append(Span("update", step, microbatch, start, time()))

    def step(self, step: int, before: OnLayer | None = None) -> None:
        """Let every layer's optimizer take its step."""
        start = time()
        self.untraced.step(step, before)
        self.spans.append(Span("optimizer", step, -1, start, time()))

    def first_non_finite(self) -> str | None:
        """Name the first layer whose weights, or outputs that wait for an error, are not finite."""
        return self.untraced.first_non_finite()


class TracedHead(Head):
    """A head that notes when it makes an error in `spans`; its weights are the given head's."""

    def __init__(self, head: Head) -> None:
        vars(self).update(vars(head))
        self.untraced = head
        self.spans: list[Span] = []

    def error(
        self, h: Activations, target: Tensor, step: int, microbatch: int
    ) -> tuple[float, Tensor]:
        """Return loss and global error of one microbatch."""
        start = time()
        result = super().error(h, target, step, microbatch)
        self.spans.append(Span("head", step, microbatch, start, time()))
        return result
