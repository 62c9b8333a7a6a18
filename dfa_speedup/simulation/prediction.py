"""Predicts a step of errorcast or of a peer, from measured layer costs and a link.

Assumptions, besides the simulation's: every process has a network card of its own, which sends no
faster than the link. Costs grow in proportion to the samples of a microbatch; R replicas split the
batch and sum their gradients, which is hidden as far as the last microbatch's update (or backward
pass) goes. Beyond a number of blocks all blocks are taken to cost the same, and the share of time
lost is that of fewer blocks with the same costs, messages and microbatches a block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log2

from dfa_core.balance.cutting import cut_layers
from dfa_core.rule import Method
from dfa_speedup.peers import (
    DDP,
    EAGER_PIPELINES,
    ERRORCAST,
    OWN_BACKWARD,
    OwnBackward,
    refusal,
    stage_ranges,
)
from dfa_speedup.simulation.costs import ZERO, Costs, LayerCost, total
from dfa_speedup.simulation.link import Link, exposed, ordered_sum, ring
from dfa_speedup.simulation.own_backward import OwnBackwardStep
from dfa_speedup.simulation.sending import pipeline_sending, sending
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.simulation.steps import Sizes, data_parallel_step, errorcast_step, pipeline_step
from dfa_speedup.workload import Configuration, Workload


@dataclass(frozen=True)
class Predictor:
    """Predicts steps of one model.

    costs: of any microbatch. simulated: the most blocks that are simulated; beyond them steps are
    extrapolated.
    """

    workload: Workload
    costs: Costs
    link: Link
    simulated: int = 32

    def side(self, configuration: Configuration, shape: Shape) -> float | None:
        """Return the seconds of a step of a comparison's side, or None where it is unknown.

        shape: errorcast's, of one replica; the other sides have as many workers.
        """
        name, m = configuration.schedule, configuration.microbatches
        samples, workers = self.workload.batch_size // m, shape.in_replica
        if name == ERRORCAST:
            return self.errorcast(shape, samples, m)
        if name in OWN_BACKWARD:
            return self.own_backward(OWN_BACKWARD[name], shape, samples, m)
        if name in EAGER_PIPELINES:
            return self.pipeline(configuration, workers, samples)
        if name == DDP and m == 1:
            share, weights = samples // workers, 4 * self.workload.profile.parameters
            return data_parallel_step(self.costs, workers, share, weights, self.link)
        return None

    def errorcast(self, shape: Shape, samples: int, m: int) -> float:
        """Return the seconds of errorcast's step.

        samples: of a microbatch. m: microbatches of each replica.
        """
        costs, profile, replicas = self.costs.scaled(samples), self.workload.profile, shape.replicas
        ranges = self.ranges(shape, m)
        between = max(profile.between[last].message.bytes for _, last in ranges)
        sizes = Sizes(between, self.workload.error_bytes)
        each = [total(costs.layers[a:b]) for a, b in ranges]
        staleness, link, head = self.workload.rule.staleness, self.link, costs.head
        sums = [self._sums(a, b, replicas) for a, b in ranges] if replicas > 1 else []
        head_sum = ordered_sum(shape.copies_of_head, 4 * profile.head_parameters, link)
        step = partial(errorcast_step, link=link, staleness=staleness, head_sum=head_sum)
        sent = max(sending(self.workload, shape, ranges, link).values())
        if shape.in_replica * replicas <= self.simulated:
            return max(sent, step(shape, each, head, samples, m, sizes, sums=sums))
        tail = max((exposed(c, r) for c, r in zip(each, sums, strict=False)), default=0.0)
        alone = replace(shape, replicas=1)
        if shape.in_replica <= self.simulated:
            found = step(alone, each, head, samples, m, sizes)
        else:
            found = self._extrapolated(step, alone, each, head, samples, m, sizes)
        if shape.head == "coordinator":  # one for all replicas
            found = max(found, replicas * m * head.update + head.optimizer)
        return max(sent, tail + found)

    def own_backward(
        self, backward: OwnBackward, shape: Shape, samples: int, m: int
    ) -> float | None:
        """Return the seconds of a step of backpropagation on our own blocks, in one replica.

        samples, m: as errorcast() has them. None where heads have workers of their own, or workers
        are more than are simulated.
        """
        if shape.heads > 1 or shape.in_replica > self.simulated:
            return None
        costs, ranges = self.costs.scaled(samples), self.ranges(shape, m, "bp")
        each = [total(costs.layers[a:b]) for a, b in ranges]
        profile = self.workload.profile_of_backpropagation
        between = max(profile.between[last].message.bytes for _, last in ranges)
        hop = self.link.seconds(samples * between)
        in_block = shape.head == "block"
        return OwnBackwardStep(backward, each, costs.head, m, hop, in_block).seconds()

    def _extrapolated(
        self,
        step: Callable[..., float],
        shape: Shape,
        each: Sequence[LayerCost],
        head: LayerCost,
        samples: int,
        m: int,
        sizes: Sizes,
    ) -> float:
        """Return the seconds of a step of more workers than are simulated, in one replica."""
        blocks, in_block = shape.blocks, shape.head == "block"
        simulated = min(blocks, self.simulated)
        work = [*each, replace(ZERO, update=head.update, optimizer=head.optimizer)]
        mean = total(work if in_block else each) * (1 / blocks)
        fewer = max(1, m * simulated // blocks)
        depth = ceil(log2(blocks + 1)) / ceil(log2(simulated + 1))  # of the broadcast's tree
        sizes = Sizes(sizes.between, sizes.error * depth)
        heads = min(shape.heads, fewer, self.simulated)
        share = heads / shape.heads if heads else 1.0  # so that these have as much to do as all
        apart = replace(head, update=head.update * share)
        smaller = Shape(simulated, 1, "workers" if heads else "coordinator", heads)
        same = [mean] * simulated
        found = step(smaller, same, ZERO if in_block else apart, samples, fewer, sizes)
        microbatch = mean.forward + mean.update
        last = m * (each[-1].forward + each[-1].update + head.update) if in_block else 0.0
        return max(found * _work_ratio(mean, microbatch, m, fewer), last)

    def ranges(self, shape: Shape, m: int, method: Method = "dfa") -> list[tuple[int, int]]:
        """Return each block's layers. m: microbatches of each replica."""
        rule = replace(self.workload.rule, microbatches=m * shape.replicas, method=method)
        with_head = shape.head == "block"
        return cut_layers(self.workload.profile, rule, shape.blocks, shape.replicas, with_head)

    def pipeline(
        self, configuration: Configuration, workers: int, samples: int, replicas: int = 1
    ) -> float | None:
        """Return the seconds of a step of one of torch's schedules, or None where it cannot run.

        configuration: with the microbatches of each replica. samples: of a microbatch.
        """
        if refusal(self.workload, configuration, workers) is not None:
            return None
        costs, a_worker = self.costs.scaled(samples), configuration.virtual_stages
        m = configuration.microbatches
        each = [*costs.layers, costs.head]
        ranges = stage_ranges(self.workload, workers * a_worker)
        stages = [total(each[a:b]) for a, b in ranges]
        between = self.workload.profile_of_backpropagation.between
        hop = max(between[last].bytes for _, last in ranges[:-1])
        weights = 4 * self.workload.profile.parameters / workers
        # hidden as far as the last microbatch's backward pass goes, as ours by the last update
        tail = max(0.0, ring(replicas, weights, self.link) - total(stages).backward / workers)
        sent = pipeline_sending(a_worker, samples * m, hop, self.link) if workers > 1 else 0.0
        if workers <= self.simulated:
            found = pipeline_step(configuration, stages, workers, samples, hop, self.link)
            return max(sent, tail + found)
        mean, fewer = self._mean(stages), self._fewer(m, workers)
        same, smaller = (
            [mean] * (self.simulated * a_worker),
            replace(configuration, microbatches=fewer),
        )
        found = pipeline_step(smaller, same, self.simulated, samples, hop, self.link)
        microbatch = mean.forward + mean.backward
        return max(sent, tail + found * _work_ratio(mean, microbatch, m, fewer))

    def _sums(self, first: int, last: int, replicas: int) -> list[float]:
        """Return how long the sum over the replicas takes, for each of these layers."""
        layers = self.workload.profile.layers[first:last]
        return [ordered_sum(replicas, 4 * layer.parameters, self.link) for layer in layers]

    def _mean(self, each: Sequence[LayerCost]) -> LayerCost:
        return total(each) * (1 / len(each))

    def _fewer(self, m: int, blocks: int) -> int:
        """Return as many microbatches a block for the blocks that are simulated."""
        return max(1, m * self.simulated // blocks)


def _work_ratio(mean: LayerCost, microbatch: float, m: int, fewer: int) -> float:
    """Return the work of m microbatches in a block over that of fewer."""
    return (m * microbatch + mean.optimizer) / (fewer * microbatch + mean.optimizer)
