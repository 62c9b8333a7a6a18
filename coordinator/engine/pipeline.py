"""The engine: a block in each Ray actor, and this process as rank 0."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from ray.exceptions import RayError
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.base import SkippedStep
from coordinator.engine.blueprint import Blueprint
from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation_loop import Parts, evaluate_segment, feed_evaluation
from coordinator.engine.far_links import Hop, settled_waiting
from coordinator.engine.loads import Loads
from coordinator.engine.loop import OnStep, feed_segment, train_segment
from coordinator.engine.plan import Forms, Plan
from coordinator.engine.rank0 import Rank0
from coordinator.engine.snapshots import Snapshot, Snapshots
from coordinator.engine.waits import Waits
from coordinator.engine.worker_group import PipelineBroken, WorkerGroup
from coordinator.runs.checkpoint import Checkpoint
from dfa_core import ActivationSpec, Head
from dfa_core.loss import WeightedLoss
from dfa_core.scoring import Metrics, PartReport, reports_of
from dfa_core.seeding import restored_once
from workers.gpu import device_here
from workers.groups.transport import Transport
from workers.heads.measured_outputs import Measuring
from workers.in_cluster import InCluster
from workers.machine.python_warnings import PythonWarning
from workers.meter import Meter, SegmentStats
from workers.payload import PickledPayload
from workers.placement import Placement, Worker
from workers.snapshots import restore
from workers.state_files import StateFile, write_state
from workers.storage import Folder
from workers.trace import Recording


class Pipeline:
    """R x (K + H) workers; the head is here, in the last block's, or in H workers of its own.

    Activations and the global error (gradients, for `bp`) travel between the blocks of a replica,
    gradients between the replicas of a block, and nothing else does.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        plan: Plan,
        model: PickledPayload,
        head: Head | PickledPayload,
        prefetcher: Prefetcher,
        timeout_s: float,
        transport: Transport = "gloo",
        snapshot_steps: int = 0,
        placement: Placement | None = None,
        waits: Waits | None = None,
        warn: Callable[[PythonWarning], None] = lambda _: None,
        metrics: PickledPayload | None = None,
        far: Callable[[Hop], None] = lambda _: None,
        data: PickledPayload | None = None,
    ) -> None:
        """Calls no worker before start().

        workers: of all blocks and replicas, as workers/grid.py numbers them.
        model: the packed dfa_core.Model.
        head: on the device where rank 0 computes; or, where workers host it, the packed loss of
            plan.profile.
        timeout_s: silence after which a worker counts as hung.
        transport: how tensors travel.
        snapshot_steps: fewest steps between two snapshots in memory; 0 takes none.
        placement: replaces lost workers; without it they cannot be replaced.
        waits: reports what the run waits for.
        warn: called with the Python warnings of the workers.
        metrics: what evaluations measure in addition to the loss, packed for the hosts of the head;
            without it they are measured here.
        far: called where more microbatches have to wait, since messages travel for long.
        data: the packed shares of the replicas, if plan.readers says that blocks read theirs.
        """
        self._waits = waits or Waits()
        self.plan, self._snapshot_steps = plan, snapshot_steps
        self._placement, self._far = placement, far
        self._blueprint = Blueprint.put(model, head, metrics, data)
        here = head if isinstance(head, Head) else None
        self._rank0 = Rank0.of(plan, here, prefetcher, self._waits)
        own = device_here() if transport == "nccl" else torch.device("cpu")
        device = here.device if here else own
        backwards = plan.rule.passes_back
        of_workers = plan.heads or int(plan.head == "block"), plan.readers > 0, backwards
        self._workers = WorkerGroup(workers, plan.grid, timeout_s, transport, device, *of_workers)
        self._built: set[int] = set()
        self._warn = warn
        self._snapshots = Snapshots()
        self._loads = Loads(plan.held(), head_here=here is not None)

    @property
    def loss(self) -> WeightedLoss:
        """Return the loss, with the weight of its mean."""
        return self._rank0.loss

    def start(self, checkpoint: Checkpoint | None) -> int:
        """Let workers without layers build them, load a checkpoint, and join all into one group.

        Returns the step that the run is at.

        Raises JobError when a layer cannot be built, PipelineBroken when a worker is gone.
        """
        self._workers.leave()
        self._snapshots.drop()
        return self._assemble(None, checkpoint)

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:
        """Replace lost workers, restore the state of one step in all, and join a new group.

        Survivors keep their layers. The state is that of the newest snapshot, or the checkpoint's
        where there is no snapshot or an older one. Returns the step of it.

        Raises PipelineBroken when another worker is lost meanwhile, TrainingFailed when there is no
        room for a new one.
        """
        self._workers.leave()
        self._built -= set(lost)
        gone: set[str] = set()
        if lost and self._placement is not None:
            self._workers.all, gone = self._placement.replace(lost)
        if gone:
            self._blueprint = self._blueprint.again()
        self._snapshots.settle()
        snapshot = self._snapshots.newest(lost, gone)
        try:
            return self._assemble(snapshot, checkpoint)
        finally:
            if gone:  # the snapshot has served, or cannot
                self._snapshots.drop()

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on: one call a worker, nothing is rebuilt.

        Raises PipelineBroken when a worker is gone. recover() then gives the cuts to all workers,
        unless it takes other ones from a checkpoint.
        """
        self._keep_cuts(cuts)
        self._workers.all_of([w.actor.set_cuts.remote(cuts) for w in self._workers.all])

    def train(self, first: int, last: int, on_step: OnStep) -> list[SkippedStep]:
        """Train steps first..last-1: one call a worker, and rank 0's own loop meanwhile."""
        groups, generation = self._workers.groups, self._workers.generation
        waiting = self._rank0.waiting
        if self._snapshot_steps and self._snapshots.due(first, self._snapshot_steps):
            self._snapshots.take(self._workers.first_replica, self._here, generation, first)
        meter = Meter(self._workers.joined)
        calls = [w.actor.train.remote(generation, first, last, waiting) for w in self._workers.all]
        with self._workers.watching(calls), restored_once():
            if self._rank0.head is None:
                feed_segment(self._rank0, groups, range(first, last), on_step)
            else:
                train_segment(self._rank0, self._rank0.head, groups, range(first, last), on_step)
            blocks: list[SegmentStats] = self._workers.all_of(calls)
        self._pass_on(stats.warned for stats in blocks)
        self._loads.add([*blocks, meter.read()])
        head = [(step, head.label) for head in self._here for step in head.take_skipped()]
        once = blocks[: len(self._workers.first_replica)]  # every copy skips the same
        return [*(one for stats in once for one in stats.skipped), *head]

    def outputs(self, data: Dataset[Any], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of all samples, run through the same pipeline.

        Raises JobError when samples have another form than those tried before the first step.
        """
        parts, forms = self._parts(data, at_once)
        last = forms.between[-1] if self._here else ActivationSpec((forms.output,))
        rank0, calls = replace(self._rank0, arriving=last), self._evaluate(parts.sizes, forms)
        with self._workers.watching(calls):
            each = parts.each(forms.between[0])
            yield from evaluate_segment(rank0, self._workers.groups, each, parts.sizes)
            found = self._workers.all_of(calls)
        self._pass_on(warned for _, warned in found)

    def reports(
        self, data: Dataset[Any], at_once: int, metrics: Metrics, seed: int
    ) -> Iterator[Mapping[str, PartReport]]:
        """Yield what the loss and each metric give for each part, measured where the head is.

        Raises JobError as outputs() does.
        """
        if self._blueprint.metrics is None:
            yield from reports_of(self.outputs(data, at_once), self.loss, metrics, seed)
            return
        parts, forms = self._parts(data, at_once)
        calls = self._evaluate(parts.sizes, forms, Measuring(parts.target, seed))
        with self._workers.watching(calls):
            each = parts.each(forms.between[0], targets_too=True)
            feed_evaluation(self._rank0, self._workers.groups, each, parts.sizes)
            found = self._workers.all_of(calls)
        self._pass_on(warned for _, warned in found)
        of_hosts = [iter(found[number - 1][0]) for number in self.plan.hosts_of_head]
        for part in range(len(parts.sizes)):
            yield next(of_hosts[part % len(of_hosts)])

    def _parts(self, data: Dataset[Any], at_once: int) -> tuple[Parts, Forms]:
        with self._waits.on("the data of an evaluation"):
            parts = Parts(data, at_once, self.plan.rule.seed)
        return parts, self.plan.evaluated_as(parts.x)

    def _evaluate(
        self, sizes: Sequence[int], forms: Forms, measuring: Measuring | None = None
    ) -> list[Any]:
        """Let all workers run their shares of the parts; return the calls."""
        grid, generation = self.plan.grid, self._workers.generation
        return [
            w.actor.evaluate.remote(
                generation, grid.share(sizes, i), *self.plan.ends(i, forms), measuring
            )
            for i, w in enumerate(self._workers.all, start=1)
        ]

    def save(self, folder: Folder) -> list[StateFile]:
        """Let every block write its layers, all at once; write the head."""
        calls = [w.actor.save.remote(folder) for w in self._workers.first_replica]
        with self._waits.on("the checkpoint", "to be written"):
            here = [write_state(head, folder) for head in self._here]
            return [file for files in self._workers.all_of(calls) for file in files] + here

    def diagnosis(self) -> str | None:
        """Ask the workers, in the order of the layers, who holds a NaN or infinity."""
        try:
            calls = [w.actor.first_non_finite.remote() for w in self._workers.all]
            found = self._workers.all_of(calls)
        except (PipelineBroken, RayError):
            return None
        return next(
            (layer for layer in found if layer), f"{self.plan.profile.head_label} or the loss"
        )

    def report(self) -> list[dict[str, Any]]:
        """Return a row a worker and one for the coordinator."""
        return self._loads.total()

    def loads(self) -> list[dict[str, Any]]:
        """Return the same rows of the newest segment alone."""
        return self._loads.newest()

    def waited_for_data(self) -> float:
        """Return the seconds that training waited for batches."""
        return self._waits.seconds["the data"] + self._loads.data_s()

    def processes(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.process for worker in self._workers.all]

    def snapshot_cost(self) -> tuple[int, float]:
        """Return the number of snapshots, and the largest share of a block's time they took."""
        return self._snapshots.taken, self._loads.snapshot_share()

    def trace(self, profiled: bool = False) -> None:
        """Let the workers and rank 0 record what they compute."""
        self._workers.all_of([w.actor.trace.remote(profiled) for w in self._workers.all])
        self._rank0.tracer.start(profiled)

    def recordings(self) -> list[Recording]:
        """Stop recording; return that of each worker, then of a head that is here."""
        calls = [w.actor.recording.remote() for w in self._workers.all]
        here = self._rank0.tracer.stop()
        return [*self._workers.all_of(calls), *([here] if self._here else [])]

    def close(self) -> None:
        """Leave the group."""
        self._workers.leave()
        self._snapshots.close()

    @property
    def _here(self) -> list[Head]:
        """Return the head, if it is in this process."""
        return [] if self._rank0.head is None else [self._rank0.head]

    def _keep_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the rate of a head that is here, and of what new workers will build."""
        self.plan = replace(self.plan, rule=self.plan.rule.cut_at(cuts))
        for head in self._here:
            head.set_cuts(cuts)

    def _pass_on(self, warnings: Iterable[Sequence[PythonWarning]]) -> None:
        for warning in chain.from_iterable(warnings):
            self._warn(warning)

    def _assemble(self, snapshot: Snapshot | None, checkpoint: Checkpoint | None) -> int:
        missing = sorted(set(range(1, len(self._workers.all) + 1)) - self._built)
        with self._waits.on("the workers", "to build their layers"):
            calls = [
                self._blueprint.build(self._workers.all[n - 1], self.plan.stage(n)) for n in missing
            ]
            warned = self._workers.all_of(calls, missing)
        self._pass_on(warned)
        self._built.update(missing)
        if snapshot is not None and (checkpoint is None or snapshot.step >= checkpoint.step):
            step = self._restore(snapshot)
        elif checkpoint is not None:
            step = self._load(checkpoint)
        else:
            step = 0  # nothing was trained yet
        self._workers.join()
        waiting = settled_waiting(self._workers, self.plan, self._far)
        self._rank0 = replace(self._rank0, waiting=waiting)
        return step

    def _restore(self, snapshot: Snapshot) -> int:
        step, cuts, grid = snapshot.step, self.plan.rule.optimizer.cuts, self.plan.grid
        calls = [
            w.actor.restore.remote(step, InCluster(snapshot.blocks[grid.state_of(i) - 1]), cuts)
            for i, w in enumerate(self._workers.all, start=1)
        ]
        self._go_back()
        restore(self._here, snapshot.here)
        self._workers.all_of(calls)
        return step

    def _load(self, checkpoint: Checkpoint) -> int:
        step, saved, cuts = checkpoint.step, checkpoint.modules, checkpoint.state.cuts
        self._keep_cuts(cuts)
        calls = [w.actor.load.remote(step, saved, cuts) for w in self._workers.all]
        self._go_back()
        with self._waits.on("the checkpoint", "to be loaded"):
            for head in self._here:
                head.load_state(*saved.read(head.name))
            self._workers.all_of(calls)
        return step

    def _go_back(self) -> None:
        """Drop what an aborted segment left at rank 0."""
        self._rank0.tracer.stop()
        for head in self._here:
            head.go_back()
