"""Sums the gradients of a block over its replicas, while the block computes further layers.

Each layer is a bucket: its sum starts as soon as its last gradient is computed, and the block waits
for it just before the layer's optimizer step. The order in which gloo adds depends only on the
number of replicas, so that every run and every replica gets the same bits.
"""

from dfa_core.trained import TrainedModule
from workers.groups.group import Group, Transfer


class ReplicaSum:
    """The sums of one block that are under way."""

    def __init__(self, group: Group) -> None:
        """group: the replicas of one block."""
        self._group = group
        self._coming: dict[tuple[str, int], tuple[TrainedModule, Transfer]] = {}

    def begin(self, module: TrainedModule, step: int) -> None:
        """Start to sum the gradients of `step` of a layer, or of the head."""
        if module.parameters:
            vector = module.gradient_vector(step)
            self._coming[module.name, step] = module, self._group.all_reduce(vector)

    def end(self, module: TrainedModule, step: int) -> None:
        """Wait for that sum and give it to the module, just before its optimizer step.

        Running statistics (BatchNorm's) come from replica 0, as in torch's DistributedDataParallel:
        no gradient keeps them equal.

        Raises GroupLeft when a replica is gone.
        """
        self._give(module.name, step)
        for buffer in module.running_statistics():
            first = self._group.broadcast(buffer.detach().clone()).wait()
            buffer.data.copy_(first)  # graphs of later batches may hold it (delayed mode)

    def finish(self) -> None:
        """Wait for all sums; in delayed mode a segment ends with some steps still open."""
        for name, step in list(self._coming):
            self._give(name, step)

    def _give(self, name: str, step: int) -> None:
        module, transfer = self._coming.pop((name, step), (None, None))
        if module is not None and transfer is not None:
            module.take_gradient_vector(step, transfer.wait())
