"""How long a step takes, from layer costs and links, under each schedule.

errorcast's blocks run dfa_core's own schedule function, the one that the workers run; the pipelines
run torch's order of actions.

Assumptions: messages do not slow a worker's compute; each message takes latency + bytes /
bandwidth, and links do not contend; the error is broadcast along a binary tree; the machine has a
core (or GPU) for every worker.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log2

from dfa_core import Forward, Step, Update, block_actions, in_flight
from dfa_core.schedule import away, head_of
from dfa_speedup.peers import PIPELINES
from dfa_speedup.simulation.costs import Costs, LayerCost, total
from dfa_speedup.simulation.events import TimedAction, run
from dfa_speedup.simulation.link import Link, exposed, ring
from dfa_speedup.simulation.pipeline_orders import PipelineAction, pipeline_order
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Configuration

_PIPELINE_STEPS = 3


@dataclass(frozen=True)
class Sizes:
    """Bytes of one sample: what enters each block or stage, and the global error."""

    between: float
    error: float


@dataclass(frozen=True)
class _Errorcast:
    """Steps of the workers of a shape, and of the coordinator where that has the head.

    blocks: the cost of each. microbatches: of each replica.
    hop, cast: seconds of a microbatch's activations between workers, and of its error to all
        blocks. waiting: microbatches that may wait for their error at a block.
    tails: seconds between a block's last update and its optimizer step, for sums over the replicas.
    head_tail: the same of a head's last microbatch, for the sum over its copies.
    """

    shape: Shape
    blocks: Sequence[LayerCost]
    head: LayerCost
    microbatches: int
    hop: float
    cast: float
    waiting: int
    tails: Sequence[float]
    head_tail: float

    def workers(self, steps: int, staleness: int) -> list[Iterator[TimedAction]]:
        """Return the actions of every process."""
        shape = self.shape
        found = [
            self.block(r, k, steps, staleness)
            for r in range(shape.replicas)
            for k in range(shape.blocks)
        ]
        if shape.head == "workers":
            found += [self.of_head(r, h, steps) for r, h in self._copies]
        return [*found, self.coordinator(steps)] if shape.head == "coordinator" else found

    def block(self, r: int, k: int, steps: int, staleness: int) -> Iterator[TimedAction]:
        """Yield the actions of block k of replica r."""
        cost, m, shape = self.blocks[k], self.microbatches, self.shape
        hosts = shape.head == "block" and k == shape.blocks - 1
        for action in block_actions(shape.blocks, m, 0, steps, staleness, self.waiting):
            match action:
                case Forward(step, i):
                    needs = ((("F", r, k - 1, step, i), self.hop),) if k else ()
                    yield TimedAction(("F", r, k, step, i), cost.forward, needs)
                    if hosts:
                        yield from self._error(r, 0, step, i, ())
                case Update(step, i):
                    error = (("E", r, step, i), 0.0 if hosts else self.cast)
                    yield TimedAction(("U", r, k, step, i), cost.update, (error,))
                case Step(step):
                    last = (("U", other, k, step, m - 1) for other in range(shape.replicas))
                    sums = tuple((update, self.tails[k]) for update in last)
                    yield TimedAction(("S", r, k, step), cost.optimizer, sums)

    def of_head(self, r: int, h: int, steps: int) -> Iterator[TimedAction]:
        """Yield the actions of head h of replica r, a worker of its own."""
        k, heads = self.shape.blocks - 1, self.shape.heads
        for step in range(steps):
            for i in range(self.microbatches):
                if head_of(i, heads) == h:
                    yield from self._error(r, h, step, i, ((("F", r, k, step, i), self.hop),))

    def coordinator(self, steps: int) -> Iterator[TimedAction]:
        """Yield the head's actions: the errors of a step, then its optimizer step."""
        k = self.shape.blocks - 1
        for step in range(steps):
            for i in range(self.microbatches):
                for r in range(self.shape.replicas):
                    needs = ((("F", r, k, step, i), self.hop),)
                    yield TimedAction(("E", r, step, i), self.head.update, needs)
            yield TimedAction(("head", 0, 0, step), self.head.optimizer)

    def _error(
        self, r: int, h: int, step: int, i: int, needs: tuple[tuple[Hashable, float], ...]
    ) -> Iterator[TimedAction]:
        """Yield a microbatch of a copy of the head, and the end of a step.

        Several copies sum their gradients while the next step's outputs come; one has no need to.
        """
        several = self.shape.copies_of_head > 1
        if several and i == h and step:
            sums = tuple((done, self.head_tail) for done in self._ends(step - 1))
            yield TimedAction(("head", r, h, step - 1), self.head.optimizer, sums)
        yield TimedAction(("E", r, step, i), self.head.update, needs)
        if not several and i == self.microbatches - 1:
            yield TimedAction(("head", r, h, step), self.head.optimizer)

    def _ends(self, step: int) -> Iterator[Hashable]:
        """Yield when each copy of the head has had its last microbatch of a step."""
        m, heads = self.microbatches, max(1, self.shape.heads)
        for r, h in self._copies:
            yield ("E", r, step, h + (m - 1 - h) // heads * heads)

    @property
    def _copies(self) -> list[tuple[int, int]]:
        """Return (replica, head) of each copy of the head."""
        heads = range(max(1, self.shape.heads))
        return [(r, h) for r in range(self.shape.replicas) for h in heads]


def errorcast_step(
    shape: Shape,
    blocks: Sequence[LayerCost],
    head: LayerCost,
    samples: int,
    m: int,
    sizes: Sizes,
    link: Link,
    staleness: int = 0,
    sums: Sequence[Sequence[float]] = (),
    head_sum: float = 0.0,
) -> float:
    """Return the seconds of a step of a shape, in a pipeline that is full.

    blocks: the cost of each. samples: of a microbatch. m: microbatches of each replica.
    sums: for each block the seconds of its layers' sums over the replicas.
    head_sum: seconds of the head's sum over its copies.
    """
    tails = [exposed(cost, sums[k]) if sums else 0.0 for k, cost in enumerate(blocks)]
    hop = link.seconds(samples * sizes.between)
    receivers = shape.blocks - (shape.head == "block")
    cast = ceil(log2(receivers + 1)) * link.seconds(samples * sizes.error)
    work, turns = total(blocks), shape.replicas if shape.head == "coordinator" else 1
    of_block = (work.forward + work.update) / shape.blocks
    time = away(shape.blocks, hop, turns * head.update, of_block)
    waiting = in_flight(shape.blocks, m, staleness, time)
    simulated = _Errorcast(shape, blocks, head, m, hop, cast, waiting, tails, head_sum)
    full = 2 + staleness  # steps until the pipeline is full
    steps = full + 2 * (staleness + 1)
    at = run(simulated.workers(steps + 1, staleness))
    return (at["head", 0, 0, steps - 1] - at["head", 0, 0, full - 1]) / (steps - full)


def pipeline_step(
    configuration: Configuration,
    stages: Sequence[LayerCost],
    workers: int,
    samples: int,
    hop_bytes: float,
    link: Link,
) -> float:
    """Return the seconds of a step of one of torch's schedules.

    configuration: with the microbatches of a replica. stages: the head is in the last one.
    samples: of a microbatch. hop_bytes: of one sample between two stages.
    """
    peer, hop = PIPELINES[configuration.schedule], link.seconds(samples * hop_bytes)

    def arrival(kind: str, stage: int, to: int, step: int, i: int) -> tuple[tuple[object, float]]:
        """Return what a stage needs from a neighbour, and the delay between their workers."""
        near = peer.worker_of(stage, workers) == peer.worker_of(to, workers)
        return (((kind, stage, step, i), 0.0 if near else hop),)

    def actions(k: int, order: Sequence[PipelineAction]) -> Iterator[TimedAction]:
        for step in range(_PIPELINE_STEPS):
            for kind, stage, i in order:
                cost = stages[stage]
                if kind == "F":
                    needs = arrival("F", stage - 1, stage, step, i) if stage else ()
                    yield TimedAction(("F", stage, step, i), cost.forward, needs)
                elif kind == "W":
                    yield TimedAction(("W", stage, step, i), cost.weights)
                else:
                    back = stage < len(stages) - 1
                    needs = arrival("B", stage + 1, stage, step, i) if back else ()
                    seconds = cost.backward if kind == "B" else cost.inputs
                    yield TimedAction(("B", stage, step, i), seconds, needs)
            hosted = peer.stages_of(k, workers, configuration.virtual_stages)
            yield TimedAction(("step", k, step), sum(stages[s].optimizer for s in hosted))

    orders = pipeline_order(configuration, workers)
    at = run([actions(k, order) for k, order in enumerate(orders)])
    last = _PIPELINE_STEPS - 1
    return max(at["step", k, last] - at["step", k, last - 1] for k in range(workers))


def data_parallel_step(
    costs: Costs, replicas: int, samples: int, weights: float, link: Link
) -> float:
    """Return the seconds of a step of data parallelism: the ring overlaps the backward pass.

    samples: of a replica; weights: bytes of all gradients.
    """
    scaled = costs.scaled(samples)
    layers = total(scaled.layers)
    backward = max(layers.backward + scaled.head.backward, ring(replicas, weights, link))
    optimizer = layers.optimizer + scaled.head.optimizer
    return layers.forward + scaled.head.forward + backward + optimizer
