"""Sums the gradients of a block over its replicas, while the block computes further layers.

Each layer is a bucket: its sum starts as soon as its last gradient is computed, and the block waits
for it just before the layer's optimizer step. The order in which gloo adds depends only on the
number of replicas, so that every run and every replica gets the same bits.
"""

from dfa_core import Layer
from workers.groups.group import Group, Transfer


class ReplicaSum:
    """The sums of one block that are under way."""

    def __init__(self, group: Group) -> None:
        """group: the replicas of one block."""
        self._group = group
        self._coming: dict[tuple[int, int], tuple[Layer, Transfer]] = {}

    def begin(self, layer: Layer, step: int) -> None:
        """Start to sum a layer's gradients of `step`."""
        if layer.parameters:
            vector = layer.gradient_vector(step)
            self._coming[layer.index, step] = layer, self._group.all_reduce(vector)

    def end(self, layer: Layer, step: int) -> None:
        """Wait for that sum and give it to the layer, just before its optimizer step.

        Running statistics (BatchNorm's) come from replica 0, as in torch's DistributedDataParallel:
        no gradient keeps them equal.

        Raises GroupLeft when a replica is gone.
        """
        self._give(layer.index, step)
        for buffer in layer.running_statistics():
            first = self._group.broadcast(buffer.detach().clone()).wait()
            buffer.data.copy_(first)  # graphs of later batches may hold it (delayed mode)

    def finish(self) -> None:
        """Wait for all sums; in delayed mode a segment ends with some steps still open."""
        for index, step in list(self._coming):
            self._give(index, step)

    def _give(self, index: int, step: int) -> None:
        layer, transfer = self._coming.pop((index, step), (None, None))
        if layer is not None and transfer is not None:
            layer.take_gradient_vector(step, transfer.wait())
