"""The layers and the head that a worker builds, each once."""

from collections.abc import Sequence
from dataclasses import replace

from dfa_core import Head, Layer
from dfa_core.trained import TrainedModule
from dfa_speedup.workload import Workload


class SharedModules:
    """Builds layers and head at their first use, with the job's initial weights.

    Configurations that are only timed share them; after clear() they are built again.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._rule = replace(workload.rule, staleness=0)  # only errorcast itself has staleness
        self._layers: dict[int, Layer] = {}
        self._head: Head | None = None

    def layers(self, first: int = 0, last: int | None = None) -> list[Layer]:
        """Return layers first..last-1, by default all."""
        model, rule = self._workload.model, self._rule
        indices = range(first, len(model.layers) if last is None else last)
        for i in indices:
            if i not in self._layers:
                self._layers[i] = Layer(i, model.build_layer(i, rule.seed), rule)
        return [self._layers[i] for i in indices]

    def head(self, microbatches: int) -> Head:
        """Return the head, set to scale its loss by a microbatch's share of the mean."""
        if self._head is None:
            self._head = Head(self._workload.model, self._workload.loss, self._rule)
        self._head.rule = replace(self._rule, microbatches=microbatches)
        return self._head

    def stage(self, first: int, last: int) -> Sequence[TrainedModule]:
        """Return modules first..last-1, where the head counts as the layer after the last."""
        layers = len(self._workload.model.layers)
        found: list[TrainedModule] = [*self.layers(first, min(last, layers))]
        return [*found, self.head(1)] if last > layers else found

    def clear(self) -> None:
        """Forget all modules."""
        self._layers.clear()
        self._head = None
