"""What workers build their layers from."""

from dataclasses import dataclass, replace
from typing import Any

from dfa_core import Head
from workers.in_cluster import InCluster
from workers.payload import PickledPayload
from workers.placement import Worker
from workers.stage import StageContext


@dataclass(frozen=True)
class Blueprint:
    """What workers build their layers and the head from, in the cluster's memory.

    loss, metrics: for the workers that host the head, if any do; metrics: None where they can
        measure none.
    data: for the blocks that read their replica's data, if any do.
    """

    model: InCluster[PickledPayload]
    loss: InCluster[PickledPayload] | None
    metrics: InCluster[PickledPayload] | None
    data: InCluster[PickledPayload] | None = None

    @classmethod
    def put(
        cls,
        model: PickledPayload,
        head: Head | PickledPayload,
        metrics: PickledPayload | None,
        data: PickledPayload | None = None,
    ) -> "Blueprint":
        """Put all into memory.

        head: itself where rank 0 computes it; otherwise the packed loss. data: the packed shares.
        """
        loss = None if isinstance(head, Head) else head
        reported = [
            None if thing is None else InCluster.put(thing)
            for thing in (loss, loss and metrics, data)
        ]
        return cls(InCluster.put(model), *reported)

    def again(self) -> "Blueprint":
        """Put all into memory again, now that a node does not answer."""
        loss = self.loss and self.loss.again()
        metrics = self.metrics and self.metrics.again()
        data = self.data and self.data.again()
        return replace(self, model=self.model.again(), loss=loss, metrics=metrics, data=data)

    def build(self, worker: Worker, stage: StageContext) -> Any:
        """Let a worker build its stage; return the call."""
        for_head = [self.loss, self.metrics] if stage.hosts_head else [None, None]
        data = self.data if stage.reads_own_data else None
        return worker.actor.build.remote(self.model, stage, *for_head, data)
