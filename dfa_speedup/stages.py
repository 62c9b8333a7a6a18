"""A worker's stages under one of torch's pipeline schedules."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage

from dfa_core import Activations, Chain
from dfa_core.microbatch import Share, mean_loss
from dfa_core.trained import TrainedModule
from dfa_speedup.device import finish, moved
from dfa_speedup.peers import PIPELINES, stage_ranges
from dfa_speedup.shared_modules import SharedModules, computed
from dfa_speedup.workload import Configuration, Workload
from workers.trace import Tracer


class TimedStage(PipelineStage):
    """torch's stage, which records when it computes."""

    tracer: Tracer

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        """Run the forward pass of one microbatch."""
        with self.tracer.span("forward", 0, fwd_chunk_id):
            return super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)

    def backward_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> None:
        """Run a microbatch's backward pass, or the part of it that the stage before needs."""
        with self.tracer.span("backward", 0, bwd_chunk_id):
            super().backward_one_chunk(bwd_chunk_id, *args, **kwargs)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> None:
        """Run the part of the backward pass that is for the weights."""
        with self.tracer.span("weights", 0, bwd_chunk_id):
            super().backward_weight_one_chunk(bwd_chunk_id, *args, **kwargs)


class ContiguousBoundary(nn.Module):
    """Makes tensors contiguous where they enter a stage and where they leave it.

    gloo sends contiguous tensors only: both the values and their gradients must be contiguous.
    """

    def forward(self, *tensors: Tensor) -> Activations:
        """Return the tensors, or the single tensor."""
        for x in tensors:
            if x.requires_grad:
                hook: Any = x.register_hook
                hook(Tensor.contiguous)
        passed = tuple(x.contiguous() for x in tensors)
        return passed if len(passed) > 1 else passed[0]


class Stages:
    """Trains the stages of one of K workers in a pipeline of backpropagation."""

    def __init__(
        self,
        workload: Workload,
        configuration: Configuration,
        rank: int,
        world: int,
        shared: SharedModules,
        tracer: Tracer,
    ) -> None:
        """Build the stages on torch's default group, in which this process has the rank 0..K-1.

        shared: builds the layers, or returns those that it has built before.
        """
        peer, m = PIPELINES[configuration.schedule], configuration.microbatches
        virtual = configuration.virtual_stages
        ranges = stage_ranges(workload, virtual * world)
        hosted = peer.stages_of(rank, world, virtual)
        self.modules: Sequence[TrainedModule] = []
        self._tracer, self._device = tracer, shared.device
        self._batches = workload.batches(1)
        self._takes_inputs, self._takes_targets = 0 in hosted, len(ranges) - 1 in hosted
        stages = []
        for index in hosted:
            of_stage = shared.stage(*ranges[index])
            self.modules = [*self.modules, *of_stage]
            modules = computed(of_stage, peer.compiled)
            module = Chain(ContiguousBoundary(), *modules, ContiguousBoundary())
            stage = TimedStage(module, index, len(ranges), shared.device)
            stage.tracer = tracer
            stages.append(stage)

        self._loss, self._m, self._weight = workload.loss, m, 0.0

        def share_of_the_mean(output: Tensor, target: Tensor) -> Tensor:
            share = self._share(target)
            return mean_loss(workload.loss, output, target, share) / share.parts

        # scaled here: torch would scale all gradients afterwards, with one more pass over them
        make: Any = peer.schedule  # single and multi-stage schedules take different arguments
        self._schedule: Any = make(
            stages[0] if peer.order == "one" else stages,
            m,
            share_of_the_mean,
            scale_grads=False,
        )

    def train(self, first: int, last: int) -> tuple[list[float], list[float]]:
        """Train steps first..last-1; return their seconds, and losses where known."""
        seconds, losses = [], []
        mark = perf_counter()
        for step, read in enumerate(self._batches.microbatches(first, last), start=first):
            batch = moved(read, self._device)
            if self._takes_targets and self._m > 1:
                self._weight = self._loss.weigh(batch.target)
            found: list[Tensor] = []
            inputs = (batch.x,) if self._takes_inputs else ()
            known = {"target": batch.target, "losses": found} if self._takes_targets else {}
            self._schedule.step(*inputs, **known, return_outputs=False)
            with self._tracer.span("optimizer", step):
                for module in self.modules:
                    module.apply_gradients(step)
            if found:
                losses.append(sum(float(loss) for loss in found))
            finish(self._device)
            now = perf_counter()
            seconds.append(now - mark)
            mark = now
        return seconds, losses

    def _share(self, target: Tensor) -> Share:
        """Return the share of the microbatch with these targets in the mean over the batch."""
        if not self._weight:  # of the whole batch
            return Share(1.0, float(self._m))
        return Share(self._loss.weigh(target), self._weight)

    def close(self) -> None:
        """Stop making batches."""
        self._batches.close()
