"""Skipping a batch that is not finite: what must be known, kept and put back for one module."""

from torch import Tensor, nn


class SkippedBatches:
    """The batches that must change nothing in one module, because a number was NaN or infinite.

    Running statistics (BatchNorm's) already change in the forward, before anyone knows that the
    batch must be skipped. So they are saved before each batch, and put back if it is skipped.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._marked: set[int] = set()  # steps to skip
        self._skipped: list[int] = []  # steps that were skipped and not yet reported
        self._buffers_before: dict[int, dict[str, Tensor]] = {}

    def save_buffers(self, step: int) -> None:
        """Save the module's buffers as they are before the first forward of `step`."""
        if step not in self._buffers_before:
            self._buffers_before[step] = {n: b.clone() for n, b in self._module.named_buffers()}

    def mark(self, step: int) -> None:
        """Note that the batch of `step` must be skipped."""
        self._marked.add(step)

    def is_marked(self, step: int) -> bool:
        """Return whether the batch of `step` must be skipped."""
        return step in self._marked

    def skip(self, step: int) -> None:
        """Put the buffers back, and note that the batch of `step` was skipped."""
        self._marked.discard(step)
        self._skipped.append(step)
        before = self._buffers_before.pop(step, {})
        for later in self._buffers_before:  # delayed mode: saved after this batch changed them
            self._buffers_before[later] = before
        for name, buffer in self._module.named_buffers():
            if name in before:
                # .data: graphs of later batches may hold it, and autograd would refuse their update
                buffer.data.copy_(before[name])

    def keep(self, step: int) -> None:
        """Drop what was saved before `step`: its batch counts."""
        self._buffers_before.pop(step, None)

    def take(self) -> list[int]:
        """Return the steps that were skipped since the last call."""
        steps, self._skipped = self._skipped, []
        return steps

    def clear(self) -> None:
        """Forget everything, before an older state is loaded."""
        self._marked.clear()
        self._skipped.clear()
        self._buffers_before.clear()
