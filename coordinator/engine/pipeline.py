"""The engine of the method `dfa`: a block in each Ray actor, and this process as rank 0."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import SkippedStep
from coordinator.engine.evaluation import part_sizes
from coordinator.engine.loop import OnStep, evaluate_segment, train_segment
from coordinator.engine.plan import Plan
from coordinator.engine.prefetcher import Prefetcher
from coordinator.engine.snapshots import Snapshot, Snapshots
from coordinator.engine.worker_group import PipelineBroken, WorkerGroup
from coordinator.runs.checkpoint import Checkpoint
from dfa_core import Head, LearningRule
from dfa_tasks.source import parts
from workers.actor import PickledPayload, Rendezvous
from workers.group import Group, listen, open_store, replica_store
from workers.loop import Meter, SegmentStats
from workers.nccl_group import ring
from workers.placement import Placement, Worker, rendezvous_host
from workers.snapshots import restore
from workers.state_files import StateFile, write_state
from workers.storage import Folder
from workers.trace import Span, TracedHead
from workers.transport import RankContext, Transport, join

_ANSWER_S = 5.0
_generations = itertools.count(time.time_ns())  # no two groups of a worker share a number


class Pipeline:
    """R x K workers and the head.

    Between the blocks of a replica go activations and the global error, between the replicas of a
    block its gradients, and nothing else.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        plan: Plan,
        model: PickledPayload,
        head: Head,
        prefetcher: Prefetcher,
        rule: LearningRule,
        timeout_s: float,
        transport: Transport = "gloo",
        snapshot_steps: int = 0,
        placement: Placement | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        """Nothing is asked of the workers before start().

        workers: of all blocks and replicas, as workers/grid.py numbers them.
        model: the packed dfa_core.Model.
        timeout_s: longest wait for one message or answer.
        transport: how tensors travel.
        snapshot_steps: fewest steps between two snapshots in memory; 0 takes none.
        placement: where lost workers are replaced; without it they cannot be.
        cuda_graphs: whether blocks replay what they compute (dfa_core/graphed_block.py).
        """
        self._plan, self._head, self._prefetcher, self._rule = plan, head, prefetcher, rule
        self._timeout_s, self._snapshot_steps = timeout_s, snapshot_steps
        self._transport = transport
        self._placement, self._cuda_graphs = placement, cuda_graphs
        self._model = ray.put(model)
        self._worker_group = WorkerGroup(workers, plan.grid, timeout_s, self._abort)
        self._built: set[int] = set()
        self._snapshots = Snapshots()
        self._groups: list[Group] = []  # one a replica
        self._generation = 0
        self._all = self._newest = [SegmentStats(0.0, 0.0, 0)] * (len(workers) + 1)

    def start(self, checkpoint: Checkpoint | None) -> int:
        """Let workers without layers build them, take over a checkpoint, join all into one group.

        Returns the step that the run is at.

        Raises JobError when a layer cannot be built, PipelineBroken when a worker is gone.
        """
        self._abort()
        self._snapshots.drop()
        return self._assemble(None, checkpoint)

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:
        """Put new workers in place of lost ones, go back to the last common step, meet anew.

        Survivors keep their layers. The step is that of the newest snapshot, or where there is none
        the checkpoint's. Returns it.

        Raises PipelineBroken when another worker is lost meanwhile, TrainingFailed when there is no
        room for a new one.
        """
        self._abort()
        self._built -= set(lost)
        gone: set[str] = set()
        if lost and self._placement is not None:
            workers, gone = self._placement.replace(lost)
            self._worker_group = WorkerGroup(workers, self._plan.grid, self._timeout_s, self._abort)
        snapshot = self._snapshots.newest(lost, gone)
        try:
            return self._assemble(snapshot, checkpoint)
        finally:
            if gone:  # it has served, or cannot
                self._snapshots.drop()

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on: one call a worker, nothing is rebuilt.

        Raises PipelineBroken when a worker is gone. recover() then gives the cuts to all workers,
        unless it takes other ones from a checkpoint.
        """
        self._rule = self._rule.cut_at(cuts)
        self._head.set_cuts(cuts)
        calls = [w.actor.set_cuts.remote(cuts) for w in self._worker_group.workers]
        self._worker_group.all_of(calls)

    def train(self, first: int, last: int, on_step: OnStep) -> list[SkippedStep]:
        """Train steps first..last-1: one call a worker, and rank 0's own loop meanwhile."""
        groups = self._joined()
        if self._snapshot_steps and self._snapshots.due(first, self._snapshot_steps):
            self._snapshots.take(self._first_replica(), self._head, self._generation, first)
        meter = Meter(groups)
        calls = [
            w.actor.train.remote(self._generation, first, last) for w in self._worker_group.workers
        ]
        with self._worker_group.watching(calls):
            measured = self._plan.profile
            arriving, error = measured.between[-1], measured.error
            train_segment(
                self._head, groups, self._prefetcher, arriving, error, first, last, on_step
            )
            blocks: list[SegmentStats] = self._worker_group.all_of(calls)
        self._newest = [*blocks, meter.read()]
        self._all = [a + b for a, b in zip(self._all, self._newest, strict=True)]
        head = [(step, self._head.label) for step in self._head.take_skipped()]
        once = blocks[: self._plan.grid.blocks]  # every replica leaves out the same
        return [*(one for stats in once for one in stats.skipped), *head]

    def outputs(self, data: Dataset[Any], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of all samples, run through the same pipeline."""
        sizes = part_sizes(data, at_once)
        groups, grid = self._joined(), self._plan.grid
        calls = [
            w.actor.evaluate.remote(self._generation, sizes[grid.replica_of(i) :: grid.replicas])
            for i, w in enumerate(self._worker_group.workers, start=1)
        ]
        with self._worker_group.watching(calls):
            arriving = self._plan.profile.between[-1]
            yield from evaluate_segment(self._head, groups, arriving, parts(data, at_once), sizes)
            self._worker_group.all_of(calls)

    def save(self, folder: Folder) -> list[StateFile]:
        """Let every block write its layers, all at once; write the head."""
        calls = [w.actor.save.remote(folder) for w in self._first_replica()]
        head = write_state(self._head, folder)
        return [file for files in self._worker_group.all_of(calls) for file in files] + [head]

    def diagnosis(self) -> str | None:
        """Ask the workers, in the order of the layers, who holds a NaN or infinity."""
        try:
            calls = [w.actor.first_non_finite.remote() for w in self._worker_group.workers]
            found = ray.get(calls, timeout=_ANSWER_S)
        except RayError:
            return None
        return next((layer for layer in found if layer), f"{self._head.label} or the loss")

    def report(self) -> list[dict[str, Any]]:
        """Return a row a worker and one for the coordinator."""
        return self._rows(self._all)

    def loads(self) -> list[dict[str, Any]]:
        """Return the same of the newest segment alone."""
        return self._rows(self._newest)

    def processes(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.process for worker in self._worker_group.workers]

    def snapshot_cost(self) -> tuple[int, float]:
        """Return how many snapshots were taken, and their share of the busiest block's time."""
        shares = [one.snapshot_s / one.seconds for one in self._all if one.seconds]
        return self._snapshots.taken, max(shares, default=0.0)

    def trace(self) -> None:
        """Let the workers and the head note what they compute."""
        self._worker_group.all_of([w.actor.trace.remote() for w in self._worker_group.workers])
        self._head = TracedHead(self._head)

    def spans(self) -> list[list[Span]]:
        """End the tracing; return the spans of each block, then those of the head."""
        rows: list[list[Span]] = self._worker_group.all_of(
            [w.actor.spans.remote() for w in self._worker_group.workers]
        )
        if isinstance(self._head, TracedHead):
            rows.append(self._head.spans)
            self._head = self._head.untraced
        return rows

    def close(self) -> None:
        """Leave the group."""
        self._abort()
        self._snapshots.close()

    def _rows(self, stats: Sequence[SegmentStats]) -> list[dict[str, Any]]:
        rows = [*self._plan.held(), ("coordinator", "head")]
        return [
            {
                "process": process,
                "layers": layers,
                "busy": max(0.0, 1 - one.waiting_s / one.seconds) if one.seconds else 0.0,
                "waiting": min(1.0, one.waiting_s / one.seconds) if one.seconds else 0.0,
                "bytes_sent": one.bytes_sent,
            }
            for (process, layers), one in zip(rows, stats, strict=True)
        ]

    def _assemble(self, snapshot: Snapshot | None, checkpoint: Checkpoint | None) -> int:
        missing = set(range(1, len(self._worker_group.workers) + 1)) - self._built
        calls = [self._build(worker) for worker in sorted(missing)]
        self._worker_group.all_of(calls, sorted(missing))
        self._built |= missing
        if snapshot is not None and (checkpoint is None or snapshot.step >= checkpoint.step):
            step = self._restore(snapshot)
        elif checkpoint is not None:
            step = self._load(checkpoint)
        else:
            step = 0  # nothing was trained yet
        self._meet()
        return step

    def _build(self, worker: int) -> Any:
        actor, (first, last) = (
            self._worker_group.workers[worker - 1].actor,
            self._plan.layers(worker),
        )
        return actor.build.remote(self._model, first, last, self._rule, self._cuda_graphs)

    def _restore(self, snapshot: Snapshot) -> int:
        step, cuts = snapshot.step, self._rule.optimizer.cuts
        states_of_all = snapshot.blocks * self._plan.replicas  # replicas are alike
        pairs = zip(self._worker_group.workers, states_of_all, strict=True)
        calls = [w.actor.restore.remote(step, states, cuts) for w, states in pairs]
        self._go_back()
        restore([self._head], snapshot.head)
        self._worker_group.all_of(calls)
        return step

    def _load(self, checkpoint: Checkpoint) -> int:
        self._rule = self._rule.cut_at(checkpoint.cuts)
        step, saved, cuts = checkpoint.step, checkpoint.parts, checkpoint.cuts
        calls = [w.actor.load.remote(step, saved, cuts) for w in self._worker_group.workers]
        self._go_back()
        self._head.load_state(*saved.read(self._head.name))
        self._worker_group.all_of(calls)
        return step

    def _go_back(self) -> None:
        if isinstance(self._head, TracedHead):  # the segment that it traced was broken off
            self._head = self._head.untraced
        self._head.go_back()
        self._head.set_cuts(self._rule.optimizer.cuts)

    def _meet(self) -> None:
        """Open the store on one address alone, and join all ranks."""
        self._generation = next(_generations)
        workers, world = self._worker_group.workers, len(self._worker_group.workers) + 1
        host = rendezvous_host(workers)
        listener = listen(host)
        port = listener.getsockname()[1]
        store = open_store(host, port, world, listener)
        at, by = RankContext(host, self._head.device, self._timeout_s), self._transport
        rendezvous = Rendezvous(host, port, world, at.timeout_s, by, self._generation)
        calls = [
            worker.actor.join.remote(rendezvous, self._plan.stage(number))
            for number, worker in enumerate(workers, start=1)
        ]
        grid = self._plan.grid
        with self._worker_group.watching(calls):
            for r in range(grid.replicas):
                of_replica = replica_store(store, r)
                ranks = grid.blocks + 1
                self._groups.append(join(by, at, 0, ranks, of_replica, ring(ranks)))
            self._worker_group.all_of(calls)

    def _first_replica(self) -> list[Worker]:
        """Return the workers whose state stands for that of all."""
        return self._worker_group.workers[: self._plan.grid.blocks]

    def _joined(self) -> list[Group]:
        if not self._groups:
            raise PipelineBroken("the workers have joined no group")
        return self._groups

    def _abort(self) -> None:
        """Leave the group, and let the workers leave it: what they were asked for ends at once."""
        groups, self._groups = self._groups, []
        for group in groups:
            group.close()
        if groups:
            for worker in self._worker_group.workers:
                worker.actor.abort.remote(self._generation)
