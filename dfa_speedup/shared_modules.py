"""The layers and the head that a worker builds, each once."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dfa_core import Activations, Head, Layer
from dfa_core.activations import tensors
from dfa_core.compiling import compiled
from dfa_core.precision import computing_in, passed_on, widened
from dfa_core.trained import TrainedModule
from dfa_speedup.workload import Workload


class SharedModules:
    """Builds layers and head at their first use, with the job's initial weights.

    Configurations that are only timed share them; after clear() they are built again.
    """

    def __init__(self, workload: Workload, device: torch.device) -> None:
        self._workload, self.device = workload, device
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
                self._layers[i].to(self.device)
        return [self._layers[i] for i in indices]

    def head(self, microbatches: int) -> Head:
        """Return the head, set to scale its loss by a microbatch's share of the mean."""
        if self._head is None:
            self._head = Head(self._workload.model, self._workload.loss, self._rule)
            self._head.to(self.device)
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


class InFormat(nn.Module):
    """Computes in the job's precision, as errorcast does: a layer passes on its activations."""

    def __init__(self, trained: TrainedModule) -> None:
        super().__init__()
        self.module, self._rule = trained.module, trained.rule
        self._is_head = trained.name == "head"

    def forward(self, *inputs: Tensor) -> Activations:
        """Return the output of the module; a head takes and gives fp32."""
        if self._is_head:
            inputs = tuple(widened(x) for x in inputs)
        with computing_in(self._rule.precision, inputs[0]):
            found = tensors(self.module(*inputs))
            outputs = (
                tuple(widened(h) for h in found)
                if self._is_head
                else passed_on(found, self._rule.activations)
            )
        return outputs if len(outputs) > 1 else outputs[0]


class _Compiled(nn.Module):
    """A module that is called by its compiled code."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self._run = module, compiled(module)

    def forward(self, *inputs: Tensor) -> Activations:
        """Return the output of the module."""
        return self._run(*inputs)


def computed(trained: Sequence[TrainedModule], as_compiled: bool) -> list[nn.Module]:
    """Return what a peer runs of its modules, each compiled if asked."""
    plain = all(one.rule.precision == one.rule.activations == "fp32" for one in trained)
    modules = [one.module if plain else InFormat(one) for one in trained]
    return [_Compiled(module) for module in modules] if as_compiled else modules
