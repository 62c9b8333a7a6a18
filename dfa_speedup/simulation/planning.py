"""Predicted steps for any number of blocks, before any machine is rented.

Assumptions, beside the simulator's: layer costs were measured on this machine, and grow in
proportion to the samples of a microbatch; every schedule may take one, two or four times as many
microbatches as it has blocks; beyond 32 blocks all blocks are taken to cost the same, and the share
of time lost is that of 32 blocks with the same costs, messages and microbatches a block; R replicas
split the batch and pass their gradients round a ring, which is hidden as far as the last
microbatch's update (or backward pass) goes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log2

from dfa_core import partition
from dfa_speedup.peers import PIPELINES, refusal, stage_ranges
from dfa_speedup.simulation.costs import Costs, LayerCost, total
from dfa_speedup.simulation.simulator import (
    Link,
    Sizes,
    errorcast_step,
    exposed,
    pipeline_step,
    ring,
)
from dfa_speedup.workload import Configuration, Workload

_SIMULATED = 32


@dataclass(frozen=True)
class Planned:
    """One number of blocks: seconds a step at errorcast's best M, and what it takes.

    speedups: errorcast over each of torch's schedules at its own best M; None where the schedule
    cannot run. memory_mb: of the largest worker; bytes_per_step: of all workers.
    """

    blocks: int
    replicas: int
    microbatches: int
    seconds: float
    efficiency: float
    speedups: dict[str, float | None]
    memory_mb: float
    bytes_per_step: float


@dataclass(frozen=True)
class Planner:
    """Predicts steps of one model.

    costs: of any microbatch; state: numbers that the optimizer keeps for each weight.
    """

    workload: Workload
    costs: Costs
    link: Link
    state: float

    def plan(self, blocks: int, replicas: int) -> Planned | str:
        """Return the prediction for K blocks of R replicas, or why there is none."""
        layers = len(self.workload.model.layers)
        if blocks > layers:
            return f"the model has {layers} layers"
        if self.workload.batch_size % replicas:
            return f"{replicas} replicas do not divide the batch of {self.workload.batch_size}"
        batch = self.workload.batch_size // replicas
        tried = [m for m in self._microbatches(blocks) if batch % m == 0]
        if not tried:
            return f"a batch of {batch} is too small for {blocks} blocks"
        ours = {m: self.errorcast(blocks, batch // m, m, replicas) for m in tried}
        m = min(ours, key=ours.__getitem__)
        peers: dict[str, float | None] = {}
        for name in PIPELINES:
            times = [self.pipeline(name, blocks, batch // n, n, replicas) for n in tried]
            known = [t for t in times if t is not None]
            peers[name] = min(known) / ours[m] if known else None
        whole = total(self.costs.scaled(batch).layers)
        limit = (whole.forward + whole.update + whole.optimizer) / blocks
        return Planned(
            blocks,
            replicas,
            m,
            ours[m],
            limit / ours[m],
            peers,
            self._memory_mb(blocks, batch // m, m),
            self._bytes(blocks, replicas),
        )

    def errorcast(self, blocks: int, samples: int, m: int, replicas: int = 1) -> float:
        """Return the seconds of errorcast's step; m: microbatches of each replica."""
        costs = self.costs.scaled(samples)
        between, error = self.workload.profile.between, self.workload.error_bytes
        ranges = partition([c.forward + c.update for c in costs.layers], blocks)
        sizes = Sizes(max(between[last].message.bytes for _, last in ranges), error)
        parts = [total(costs.layers[a:b]) for a, b in ranges]
        late, link, head = self.workload.rule.staleness, self.link, costs.head
        sums = [self._sums(a, b, replicas) for a, b in ranges] if replicas > 1 else []
        if blocks * replicas <= _SIMULATED:
            return errorcast_step(parts, head, samples, m, sizes, link, late, sums, replicas)
        behind = max((exposed(p, s) for p, s in zip(parts, sums, strict=False)), default=0.0)
        if blocks <= _SIMULATED:
            return behind + errorcast_step(parts, head, samples, m, sizes, link, late)
        few, cut, part = self._fewer(blocks, m, parts)
        depth = ceil(log2(blocks + 1)) / ceil(log2(_SIMULATED + 1))  # of the broadcast's tree
        sizes = Sizes(sizes.between, sizes.error * depth)
        found = errorcast_step(few, head, samples, cut, sizes, link, late)
        work = cut * (part.forward + part.update) + part.optimizer
        return behind + found / work * (m * (part.forward + part.update) + part.optimizer)

    def pipeline(
        self, name: str, blocks: int, samples: int, m: int, replicas: int = 1
    ) -> float | None:
        """Return the seconds of a step of one of torch's schedules, or None where it cannot run."""
        if refusal(self.workload, Configuration(name, m), blocks) is not None:
            return None
        costs = self.costs.scaled(samples)
        each = [*costs.layers, costs.head]
        stages = [
            total(each[a:b])
            for a, b in stage_ranges(self.workload, blocks * PIPELINES[name].stages_a_worker)
        ]
        hop = max(spec.bytes for spec in self.workload.profile.between[1:])
        weights = 4 * self.workload.profile.parameters / blocks
        # hidden as far as the last microbatch's backward pass goes, as ours behind the last update
        behind = max(0.0, ring(replicas, weights, self.link) - total(stages).backward / blocks)
        if blocks <= _SIMULATED:
            return behind + pipeline_step(name, stages, blocks, samples, m, hop, self.link)
        few, cut, part = self._fewer(blocks, m, stages)
        few = few * PIPELINES[name].stages_a_worker
        found = pipeline_step(name, few, _SIMULATED, samples, cut, hop, self.link)
        work = cut * (part.forward + part.backward) + part.optimizer
        return behind + found / work * (m * (part.forward + part.backward) + part.optimizer)

    def _fewer(
        self, blocks: int, m: int, parts: Sequence[LayerCost]
    ) -> tuple[list[LayerCost], int, LayerCost]:
        """Return 32 parts of the mean cost, and as many microbatches a block as there are."""
        mean = total(parts) * (1 / len(parts))
        return [mean] * _SIMULATED, max(1, m * _SIMULATED // blocks), mean

    def _microbatches(self, blocks: int) -> Iterator[int]:
        return (blocks * times for times in (1, 2, 4))

    def _sums(self, first: int, last: int, replicas: int) -> list[float]:
        """Return how long the sum over the replicas takes, of each of these layers."""
        layers = self.workload.profile.layers[first:last]
        return [ring(replicas, 4 * layer.parameters, self.link) for layer in layers]

    def _memory_mb(self, blocks: int, samples: int, m: int) -> float:
        """Weights, gradients and optimizer state; inputs and outputs of layers that wait."""
        layers, between = self.workload.profile.layers, self.workload.profile.between
        waiting = min(m, blocks + 1)
        largest = 0.0
        for first, last in partition(self.workload.costs, blocks):
            weights = 4 * sum(layer.parameters for layer in layers[first:last])
            kept = sum(spec.bytes for spec in between[first : last + 1])
            largest = max(largest, weights * (2 + self.state) + kept * samples * waiting)
        return largest / 1e6

    def _bytes(self, blocks: int, replicas: int) -> float:
        """Inputs and activations once, the error to every block, gradients round the rings."""
        between, error = self.workload.profile.between, self.workload.error_bytes
        ranges = partition(self.workload.costs, blocks)
        passed = between[0].bytes + sum(between[last].message.bytes for _, last in ranges)
        rings = 2 * (replicas - 1) * 4 * self.workload.profile.parameters
        return self.workload.batch_size * (passed + blocks * error) + rings
