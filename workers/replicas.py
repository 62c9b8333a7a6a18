"""Sums the gradients of copies of a block, or of the head, while they compute.

Each layer is a bucket: its sum starts as soon as its last gradient is computed, and the block waits
for it just before the layer's optimizer step. With gloo the sum has the order of the copies, so
that every run and every copy gets the same bits.
"""

from dfa_core.trained import TrainedModule
from workers.groups.group import Group, Transfer


class ReplicaSum:
    """The sums of one block that are under way."""

    def __init__(self, group: Group) -> None:
        """group: the copies of what is summed."""
        self._group = group
        self._coming: dict[tuple[str, int], tuple[TrainedModule, Transfer]] = {}
        self._statistics: dict[str, list[Transfer]] = {}

    def begin(self, module: TrainedModule, step: int) -> None:
        """Start to sum the gradients of `step` of a layer, or of the head."""
        if module.parameters:
            vector = module.gradient_vector(step)
            self._coming[module.name, step] = module, self._group.all_reduce(vector)

    def begin_statistics(self, module: TrainedModule) -> None:
        """Start to take over the first copy's running statistics, as they are now.

        They come from one copy, as in torch's DistributedDataParallel: no gradient keeps them
        equal. end() does this too, where it was not done before.
        """
        own = [buffer.detach().clone() for buffer in module.running_statistics()]
        self._statistics[module.name] = [self._group.broadcast(buffer) for buffer in own]

    def end(self, module: TrainedModule, step: int) -> None:
        """Wait for that sum and give it to the module, just before its optimizer step.

        Raises GroupLeft when a copy is gone.
        """
        self._give(module.name, step)
        if module.name not in self._statistics:
            self.begin_statistics(module)
        transfers = self._statistics.pop(module.name)
        for buffer, first in zip(module.running_statistics(), transfers, strict=True):
            buffer.data.copy_(first.wait())  # graphs of later batches may hold it (delayed mode)

    def finish(self) -> None:
        """Wait for all sums; in delayed mode a segment ends with some steps still open."""
        for name, step in list(self._coming):
            self._give(name, step)

    def _give(self, name: str, step: int) -> None:
        module, transfer = self._coming.pop((name, step), (None, None))
        if module is not None and transfer is not None:
            module.take_gradient_vector(step, transfer.wait())
