"""Discrete events: how long a step takes, from layer costs and links, under any schedule.

errorcast's blocks run dfa_core's own schedule function, the very one that the workers run; the
peers run torch's order of actions. A worker does its actions in order, each as soon as the messages
it needs are there.

Assumptions: a worker's compute is not slowed by messages that come and go; each message takes
latency + bytes / bandwidth, and links do not contend; the error is broadcast along a binary tree;
the machine has a core (or GPU) for every worker.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, log2

from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

from dfa_core import Forward, Step, Update, block_actions
from dfa_speedup.peers import PIPELINES, PipelinePeer
from dfa_speedup.simulation.costs import Costs, LayerCost, total

_STEPS = 3
_KINDS = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}


@dataclass(frozen=True)
class Link:
    """Between any two workers: seconds a message, and bytes a second.

    summed_bytes_per_s: of a message in the ring of a sum over replicas, where all send at once and
    add up what comes; None: as any other.
    """

    latency_s: float
    bytes_per_s: float
    summed_bytes_per_s: float | None = None

    def seconds(self, size: float) -> float:
        """Return how long a message of so many bytes takes."""
        return self.latency_s + size / self.bytes_per_s


@dataclass(frozen=True)
class Task:
    """One action of a worker: its seconds, and the events it needs, with their messages' delay."""

    done: Hashable
    seconds: float
    needs: tuple[tuple[Hashable, float], ...] = ()


def run(workers: Sequence[Iterator[Task]]) -> dict[Hashable, float]:
    """Run all workers to their end; return when each event happened, in seconds from the start.

    Raises RuntimeError when they wait for one another for ever.
    """
    at: dict[Hashable, float] = {}
    free = [0.0] * len(workers)
    next_of = [next(tasks, None) for tasks in workers]
    moved = True
    while moved:
        moved = False
        for k, tasks in enumerate(workers):
            task = next_of[k]
            while task is not None and all(event in at for event, _ in task.needs):
                ready = max((at[event] + delay for event, delay in task.needs), default=0.0)
                free[k] = max(free[k], ready) + task.seconds
                at[task.done] = free[k]
                task = next(tasks, None)
                moved = True
            next_of[k] = task
    if any(task is not None for task in next_of):
        raise RuntimeError("the schedule is in deadlock")
    return at


@dataclass(frozen=True)
class Sizes:
    """Bytes of one sample: what enters each block or stage, and the global error."""

    between: float
    error: float


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
) -> float:
    """Return the seconds of a step of K blocks at M microbatches of so many samples.

    m: of each replica; rings: seconds of the sum over the replicas, a layer, a block.
    """
    count = len(blocks)
    tails = [exposed(cost, rings[k]) if rings else 0.0 for k, cost in enumerate(blocks)]
    full = 2 + staleness  # steps until the pipeline is full
    steps = full + 2 * (staleness + 1)
    hop = link.seconds(samples * sizes.between)
    cast = ceil(log2(count + 1)) * link.seconds(samples * sizes.error)

    def block(r: int, k: int) -> Iterator[Task]:
        cost = blocks[k]
        for action in block_actions(count, m, 0, steps, staleness):
            match action:
                case Forward(step, i):
                    needs = (((r, k - 1, step, i), hop),) if k else ()
                    yield Task((r, k, step, i), cost.forward, needs)
                case Update(step, i):
                    error = (("e", r, step, i), cast)
                    yield Task(("update", r, k, step, i), cost.update, (error,))
                case Step(step):
                    others = (("update", other, k, step, m - 1) for other in range(replicas))
                    met = tuple((other, tails[k]) for other in others)
                    yield Task(("step", r, k, step), cost.optimizer, met)

    def coordinator() -> Iterator[Task]:
        for step in range(steps):
            for i in range(m):
                for r in range(replicas):
                    yield Task(("e", r, step, i), head.update, (((r, count - 1, step, i), hop),))
            yield Task(("head", step), head.optimizer)

    workers = (block(r, k) for r in range(replicas) for k in range(count))
    at = run([*workers, coordinator()])
    return (at["head", steps - 1] - at["head", full - 1]) / (steps - full)


def exposed(block: LayerCost, rings: Sequence[float]) -> float:
    """Return how long the sums over the replicas go on behind a block's last update.

    They run one behind another, each from when its layer's update is done; the optimizer step of a
    layer needs its own alone, so that one sum hides behind the steps of the layers before it.
    """
    each, ended = block.update / len(rings), 0.0
    for index, seconds in enumerate(rings):
        ended = max(ended, each * (index + 1)) + seconds
    hidden = block.optimizer * (len(rings) - 1) / len(rings)
    return max(0.0, ended - block.update - hidden)


def pipeline_step(
    name: str,
    stages: Sequence[LayerCost],
    workers: int,
    samples: int,
    m: int,
    hop_bytes: float,
    link: Link,
) -> float:
    """Return the seconds of a step of one of torch's schedules; stages hold the head too."""
    peer, last = PIPELINES[name], len(stages) - 1
    hop = link.seconds(samples * hop_bytes)

    def delay(a: int, b: int) -> float:
        return hop if peer.worker_of(a, workers) != peer.worker_of(b, workers) else 0.0

    def tasks(k: int, order: Sequence[tuple[str, int, int]]) -> Iterator[Task]:
        hosted = peer.stages_of(k, workers)
        for step in range(_STEPS):
            for kind, stage, i in order:
                cost = stages[stage]
                if kind == "F":
                    needs = ((("F", stage - 1, step, i), delay(stage - 1, stage)),) if stage else ()
                    yield Task(("F", stage, step, i), cost.forward, needs)
                elif kind == "W":
                    yield Task(("W", stage, step, i), cost.weights)
                else:
                    back = (
                        ((("B", stage + 1, step, i), delay(stage, stage + 1)),)
                        if stage < last
                        else ()
                    )
                    seconds = cost.backward if kind == "B" else cost.inputs
                    yield Task(("B", stage, step, i), seconds, back)
            optimizer = sum(stages[stage].optimizer for stage in hosted)
            yield Task(("step", k, step), optimizer)

    orders = pipeline_order(peer, name, workers, m)
    at = run([tasks(k, order) for k, order in enumerate(orders)])
    return max(at["step", k, _STEPS - 1] - at["step", k, _STEPS - 2] for k in range(workers))


@cache
def pipeline_order(
    peer: PipelinePeer, name: str, workers: int, m: int
) -> list[list[tuple[str, int, int]]]:
    """Return each worker's actions: (F | B | I | W, stage, microbatch)."""
    if peer.stages_a_worker == 1:
        ahead = {k: m if name == "GPipe" else min(m, workers - k) for k in range(workers)}
        return [_one_stage(k, m, ahead[k]) for k in range(workers)]
    orders = []  # torch's names; a reduction of gradients among replicas is none of them
    for rank in get_schedule_ops(peer.schedule, workers, m, peer.stages_a_worker):
        order = []
        for action in rank:
            if action is not None:
                for part in action.sub_actions or (action,):
                    i = part.microbatch_index or 0  # None where it concerns them all
                    order.append((part.computation_type.name, part.stage_index, i))
        orders.append([(_KINDS[kind], s, i) for kind, s, i in order if kind in _KINDS])
    return orders


def _one_stage(k: int, m: int, ahead: int) -> list[tuple[str, int, int]]:
    order = [("F", k, i) for i in range(ahead)]
    for i in range(m):
        order.append(("B", k, i))
        if i + ahead < m:
            order.append(("F", k, i + ahead))
    return order


def ring(replicas: int, size: float, link: Link) -> float:
    """Return the seconds of a sum over so many replicas: of a vector of so many bytes."""
    bytes_per_s = link.summed_bytes_per_s or link.bytes_per_s
    return 2 * (replicas - 1) * (link.latency_s + size / replicas / bytes_per_s)


def data_parallel_step(
    costs: Costs, replicas: int, samples: int, weights: float, link: Link
) -> float:
    """Return the seconds of a step of data parallelism: the ring overlaps the backward pass.

    samples: of a replica; weights: bytes of all gradients.
    """
    scaled = costs.scaled(samples)
    whole = total(scaled.layers)
    backward = whole.backward + scaled.head.backward
    backward = max(backward, ring(replicas, weights, link))
    optimizer = whole.optimizer + scaled.head.optimizer
    return whole.forward + scaled.head.forward + backward + optimizer
