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
    """

    model: InCluster[PickledPayload]
    loss: InCluster[PickledPayload] | None
    metrics: InCluster[PickledPayload] | None

    @classmethod
    def put(
        cls,
        model: PickledPayload,
        head: Head | PickledPayload,
        metrics: PickledPayload | None,
    ) -> "Blueprint":
        """Put all into memory. head: itself where rank 0 computes it; otherwise the packed loss."""
        if isinstance(head, Head):
            return cls(InCluster.put(model), None, None)
        told = None if metrics is None else InCluster.put(metrics)
        return cls(InCluster.put(model), InCluster.put(head), told)

    def again(self) -> "Blueprint":
        """Put all into memory anew, now that a node does not answer."""
        loss = self.loss and self.loss.again()
        metrics = self.metrics and self.metrics.again()
        return replace(self, model=self.model.again(), loss=loss, metrics=metrics)

    def build(self, worker: Worker, stage: StageContext) -> Any:
        """Let a worker build its stage; return the call."""
        for_head = [self.loss, self.metrics] if stage.hosts_head else [None, None]
        return worker.actor.build.remote(self.model, stage, *for_head)
