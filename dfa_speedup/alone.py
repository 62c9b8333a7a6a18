"""Computes in one process: a DFA step, and the limits that no schedule can beat."""

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import Tensor

from dfa_core import Activations, Block
from dfa_core.activations import tensors
from dfa_core.microbatch import Share, batch_mean
from dfa_core.seeding import restored_once
from dfa_core.trained import TrainedModule
from dfa_speedup.device import finish, moved
from dfa_speedup.shared_modules import SharedModules, computed
from dfa_speedup.workload import Configuration, Workload


class DfaAlone:
    """A DFA step of the whole model: forwards, head, local updates, optimizer."""

    def __init__(
        self, workload: Workload, configuration: Configuration, shared: SharedModules
    ) -> None:
        self._microbatches, self._shared = configuration.microbatches, shared
        self._block = Block(shared.layers())
        self._batches = workload.batches(configuration.microbatches)
        self.modules: Sequence[TrainedModule] = shared.stage(0, len(workload.model.layers) + 1)

    @restored_once()
    def train(self, first: int, last: int) -> tuple[list[float], list[float]]:
        """Train steps first..last-1; return the seconds and the loss of each."""
        m, head = self._microbatches, self._shared.head(self._microbatches)
        microbatches = self._batches.microbatches(first, last, head.loss)
        seconds, losses = [], []
        for step in range(first, last):
            start = perf_counter()
            of_step: list[tuple[float, Share]] = []
            for microbatch in range(m):
                one = moved(next(microbatches), self._shared.device)
                h = self._block.forward(one.x, step, microbatch)
                loss, error = head.error(h, one.target, step, microbatch, one.share)
                self._block.update(error, step, microbatch)
                of_step.append((loss, one.share))
            self._block.step(step)
            head.apply_gradients(step)
            finish(self._shared.device)
            seconds.append(perf_counter() - start)
            losses.append(batch_mean(of_step))
        return seconds, losses

    def close(self) -> None:
        """Stop making batches."""
        self._batches.close()


class Limit:
    """The compute of all layers alone: forward, gradients, optimizer; no head, no messages.

    Divided by the number of blocks, its time is the step of a pipeline that never waits.
    """

    def __init__(
        self, workload: Workload, configuration: Configuration, shared: SharedModules, method: str
    ) -> None:
        """method: dfa (local updates with their projections) or bp."""
        m, head = configuration.microbatches, shared.head(configuration.microbatches)
        self.modules: Sequence[TrainedModule] = shared.layers()
        self._block = Block(shared.layers())
        self._computed = computed(shared.layers(), as_compiled=False)
        self._dfa = method == "dfa"
        source = workload.batches(m)
        self._inputs, self._errors, self._gradients = [], [], []
        self._device = shared.device
        for index, read in enumerate(source.microbatches(0, 1, head.loss)):
            one = moved(read, shared.device)
            h = Block(shared.layers()).forward(one.x, 0, index)  # as in training: with tangents
            self._inputs.append(one.x)
            self._errors.append(head.error(h, one.target, 0, index, one.share)[1])
            self._gradients.append([torch.randn_like(t) / len(one.x) for t in tensors(h)])
        source.close()
        head.module.zero_grad(set_to_none=True)

    @restored_once()
    def train(self, first: int, last: int) -> tuple[list[float], list[float]]:
        """Compute steps first..last-1; return the seconds of each, and no losses."""
        seconds = []
        for step in range(first, last):
            start = perf_counter()
            for m, x in enumerate(self._inputs):
                if self._dfa:
                    self._block.forward(x, step, m)
                    self._block.update(self._errors[m], step, m)
                else:
                    self._backward(x, self._gradients[m])
            self._block.step(step)
            finish(self._device)
            seconds.append(perf_counter() - start)
        return seconds, []

    def _backward(self, x: Activations, gradient: Sequence[Tensor]) -> None:
        for module in self._computed:
            x = module(*tensors(x))
        torch.autograd.backward(tensors(x), gradient)

    def close(self) -> None:
        """Do nothing: nothing is open."""
