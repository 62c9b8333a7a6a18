"""Sums the gradients of a block over its replicas, while it still works on further layers.

A layer is a bucket: its sum starts as soon as its last gradient is there, and is awaited just
before its optimizer step. gloo adds up in an order that depends on the number of replicas alone, so
that a run gives the same bits each time, and on every replica.
"""

from dfa_core import Layer
from workers.group import Group, Transfer


class ReplicaSum:
    """The sums of one block that are under way."""

    def __init__(self, group: Group) -> None:
        """group: of the replicas of one block."""
        self._group = group
        self._coming: dict[tuple[int, int], tuple[Layer, Transfer]] = {}

    def begin(self, layer: Layer, step: int) -> None:
        """Start to sum what a layer has gathered for `step`."""
        if layer.parameters:
            vector = layer.gradient_vector(step)
            self._coming[layer.index, step] = layer, self._group.all_reduce(vector)

    def end(self, layer: Layer, step: int) -> None:
        """Wait for that sum, and give it to the layer, whose optimizer step comes next.

        Of running statistics, which no gradient keeps alike, the first replica's count, as in
        torch's DistributedDataParallel.

        Raises GroupLeft when a replica is gone.
        """
        self._give(layer.index, step)
        for buffer in layer.running_statistics():
            first = self._group.broadcast(buffer.detach().clone()).wait()
            buffer.data.copy_(first)  # graphs of later batches may hold it (delayed mode)

    def finish(self) -> None:
        """Wait for all sums: of the steps that delayed mode leaves open at a segment's end."""
        for index, step in list(self._coming):
            self._give(index, step)

    def _give(self, index: int, step: int) -> None:
        layer, transfer = self._coming.pop((index, step), (None, None))
        if layer is not None and transfer is not None:
            layer.take_gradient_vector(step, transfer.wait())
