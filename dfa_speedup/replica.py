"""The whole model in one process: by itself, or as a replica of data parallelism."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import perf_counter

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfa_core import Chain, JobError
from dfa_core.microbatch import Microbatch, mean_loss, shares, split
from dfa_core.trained import TrainedModule
from dfa_speedup.device import finish, moved
from dfa_speedup.peers import COMPILED_ONE_PROCESS
from dfa_speedup.shared_modules import SharedModules, computed
from dfa_speedup.workload import Configuration, Workload


class Replica:
    """Trains on a share of each batch by backpropagation."""

    def __init__(
        self,
        workload: Workload,
        configuration: Configuration,
        rank: int,
        world: int,
        shared: SharedModules,
    ) -> None:
        """Build the whole model; a world of more than one is torch's default group."""
        self._workload, self._m = workload, configuration.microbatches
        self._rank, self._share = rank, workload.batch_size // world
        if workload.batch_size % (world * self._m):
            raise JobError(
                f"{world} replicas of {self._m} microbatches do not divide {workload.batch_size}"
            )
        self.modules, self._module = self._build(workload, configuration, shared)
        self._batches, self._device = workload.batches(1), shared.device

    def _build(
        self, workload: Workload, configuration: Configuration, shared: SharedModules
    ) -> tuple[Sequence[TrainedModule], nn.Module]:
        """Return what the optimizers train, and what computes the model with it."""
        modules = shared.stage(0, len(workload.model.layers) + 1)
        chain = Chain(*computed(modules, configuration.schedule == COMPILED_ONE_PROCESS))
        alone = self._share == workload.batch_size
        return modules, chain if alone else DistributedDataParallel(chain)

    def train(self, first: int, last: int) -> tuple[list[float], list[float]]:
        """Train steps first..last-1; return the seconds and the loss of each."""
        seconds, losses = [], []
        mark = perf_counter()
        for step, read in enumerate(self._batches.microbatches(first, last), start=first):
            batch = moved(read, self._device)
            losses.append(self._backward(self._mine(batch)))
            for module in self.modules:
                module.apply_gradients(step)
            finish(self._device)
            now = perf_counter()
            seconds.append(now - mark)
            mark = now
        return seconds, losses

    def _mine(self, batch: Microbatch) -> list[Microbatch]:
        """Return the microbatches of this replica, with their shares in the replica's gradient.

        The gradients of the replicas are averaged, not added.
        """
        mine = slice(self._rank * self._share, (self._rank + 1) * self._share)
        world = len(batch.target) // self._share
        every = shares(batch.target.chunk(world * self._m), self._workload.loss)
        own = every[self._rank * self._m : (self._rank + 1) * self._m]
        xs, targets = split(batch.x[mine], self._m), split(batch.target[mine], self._m)
        return [
            Microbatch(x, target, replace(share, total=share.total / world))
            for x, target, share in zip(xs, targets, own, strict=True)
        ]

    def _backward(self, microbatches: list[Microbatch]) -> float:
        total = 0.0
        for index, one in enumerate(microbatches):
            with self._apart(index < self._m - 1):
                output = self._module(one.x)
                loss = mean_loss(self._workload.loss, output, one.target, one.share)
                loss = loss / one.share.parts
                torch.autograd.backward(loss)
            total += float(loss.detach())
        return total

    def _apart(self, more: bool) -> AbstractContextManager[None]:
        """Let the replicas synchronise once a step; more: microbatches of this one will follow."""
        if isinstance(self._module, DistributedDataParallel) and more:
            return self._module.no_sync()
        return nullcontext()

    def close(self) -> None:
        """Stop making batches."""
        self._batches.close()
