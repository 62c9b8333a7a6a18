"""How long a step takes, from layer costs and links, under each schedule.

errorcast's blocks run dfa_core's own schedule function, the one that the workers run; the pipelines
run torch's order of actions.

Assumptions: messages do not slow a worker's compute; each message takes latency + bytes /
bandwidth, and links do not contend; the error is broadcast along a binary tree; the machine has a
core (or GPU) for every worker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log2

from dfa_core import Forward, Step, Update, block_actions
from dfa_speedup.peers import PIPELINES
from dfa_speedup.simulation.costs import Costs, LayerCost, total
from dfa_speedup.simulation.events import TimedAction, run
from dfa_speedup.simulation.link import Link, exposed, ring
from dfa_speedup.simulation.pipeline_orders import PipelineAction, pipeline_order

_PIPELINE_STEPS = 3


@dataclass(frozen=True)
class Sizes:
    """Bytes of one sample: what enters each block or stage, and the global error."""

    between: float
    error: float


@dataclass(frozen=True)
class _Errorcast:
    """Steps of K blocks and the coordinator.

    hop, cast: seconds of a microbatch's activations between blocks, and of its error to all blocks.
    tails: seconds between a block's last update and its optimizer step, for sums over the replicas.
    head_in_block: the last block has the head, so its own errors need no message.
    """

    blocks: Sequence[LayerCost]
    head: LayerCost
    microbatches: int
    replicas: int
    hop: float
    cast: float
    tails: Sequence[float]
    head_in_block: bool

    def block(self, r: int, k: int, steps: int, staleness: int) -> Iterator[TimedAction]:
        """Yield the actions of block k of replica r."""
        cost, m = self.blocks[k], self.microbatches
        hosts = self.head_in_block and k == len(self.blocks) - 1
        for action in block_actions(len(self.blocks), m, 0, steps, staleness):
            match action:
                case Forward(step, i):
                    needs = ((("F", r, k - 1, step, i), self.hop),) if k else ()
                    yield TimedAction(("F", r, k, step, i), cost.forward, needs)
                    if hosts:
                        yield TimedAction(("E", r, step, i), self.head.update)
                    if hosts and i == m - 1:
                        yield TimedAction(("head", r, step), self.head.optimizer)
                case Update(step, i):
                    error = (("E", r, step, i), 0.0 if hosts else self.cast)
                    yield TimedAction(("U", r, k, step, i), cost.update, (error,))
                case Step(step):
                    last = (("U", other, k, step, m - 1) for other in range(self.replicas))
                    sums = tuple((update, self.tails[k]) for update in last)
                    yield TimedAction(("S", r, k, step), cost.optimizer, sums)

    def coordinator(self, steps: int) -> Iterator[TimedAction]:
        """Yield the head's actions: the errors of a step, then its optimizer step."""
        k = len(self.blocks) - 1
        for step in range(steps):
            for i in range(self.microbatches):
                for r in range(self.replicas):
                    needs = ((("F", r, k, step, i), self.hop),)
                    yield TimedAction(("E", r, step, i), self.head.update, needs)
            yield TimedAction(("head", 0, step), self.head.optimizer)


def errorcast_step(
    blocks: Sequence[LayerCost],
    head: LayerCost,
    samples: int,
    m: int,
    sizes: Sizes,
    link: Link,
    staleness: int = 0,
    rings: Sequence[Sequence[float]] = (),
    replicas: int = 1,
    head_in_block: bool = False,
) -> float:
    """Return the seconds of a step of K blocks, in a pipeline that is full.

    samples: of a microbatch. m: microbatches of each replica.
    rings: for each block the seconds of its layers' sums over the replicas.
    head_in_block: the head is in the last block's worker, otherwise in the coordinator.
    """
    count = len(blocks)
    tails = [exposed(cost, rings[k]) if rings else 0.0 for k, cost in enumerate(blocks)]
    hop = link.seconds(samples * sizes.between)
    receivers = count - 1 if head_in_block else count
    cast = ceil(log2(receivers + 1)) * link.seconds(samples * sizes.error)
    simulated = _Errorcast(blocks, head, m, replicas, hop, cast, tails, head_in_block)
    full = 2 + staleness  # steps until the pipeline is full
    steps = full + 2 * (staleness + 1)
    workers = [
        simulated.block(r, k, steps, staleness) for r in range(replicas) for k in range(count)
    ]
    at = run(workers if head_in_block else [*workers, simulated.coordinator(steps)])
    return (at["head", 0, steps - 1] - at["head", 0, full - 1]) / (steps - full)


def pipeline_step(
    name: str,
    stages: Sequence[LayerCost],
    workers: int,
    samples: int,
    m: int,
    hop_bytes: float,
    link: Link,
) -> float:
    """Return the seconds of a step of one of torch's schedules.

    stages: the head is in the last one. samples: of a microbatch. hop_bytes: of one sample between
    two stages.
    """
    peer, hop = PIPELINES[name], link.seconds(samples * hop_bytes)

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
            hosted = peer.stages_of(k, workers)
            yield TimedAction(("step", k, step), sum(stages[s].optimizer for s in hosted))

    orders = pipeline_order(peer, name, workers, m)
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
