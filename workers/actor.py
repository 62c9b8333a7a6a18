"""The Ray actor that hosts one layer block, or a copy of the head."""

import os
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import ray
import torch

from dfa_core import ActivationSpec, Block, Head, Layer, TensorSpec, build_layers
from dfa_core.block import LayersInOrder
from dfa_core.block.exact_block import ExactBlock
from dfa_core.block.graphed_block import GraphedBlock
from dfa_core.block.hopping_block import HoppingBlock
from dfa_core.block.recomputing_block import RecomputingBlock
from dfa_core.scoring import Metrics, PartReport
from dfa_core.seeding import restored_once
from workers import loop
from workers.gpu import Gpu, device_here, gpu_here
from workers.groups.group import LOOPBACK, Group, GroupLeft
from workers.groups.transport import RankContext, Rendezvous
from workers.heads import head_loop
from workers.heads.measured_outputs import MeasuredOutputs, Measuring
from workers.in_cluster import InCluster
from workers.life.sign import Sign
from workers.links import Inbox, Outbox
from workers.machine.memory import peak_mb, reset_peak
from workers.machine.python_warnings import PythonWarning, PythonWarnings
from workers.memberships import Memberships, join_all
from workers.meter import Meter, SegmentStats
from workers.payload import PickledPayload
from workers.reading.own_inputs import OwnData
from workers.snapshots import ModuleState, pack, restore
from workers.stage import StageContext
from workers.state_files import SavedModules, StateFile, write_state
from workers.storage import Folder
from workers.trace import Recording, Tracer

_SPEED_WIDTH, _SPEED_TIMES = 512, 15  # of the matrices; of the products

_BLOCKS: dict[str, type[LayersInOrder]] = {
    "plain": Block,
    "exact": ExactBlock,
    "hopping": HoppingBlock,
    "graphed": GraphedBlock,
    "recomputing": RecomputingBlock,
}


class BlockWorker:
    """Hosts the layers of one block, or the head alone.

    It answers calls of the `control` group during a segment.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._device = device_here()
        self._blocks: type[LayersInOrder] = Block
        self._block: LayersInOrder = Block([])
        self._tracer = Tracer()
        self._head: Head | None = None  # if this worker hosts it
        self._metrics: Metrics = {}
        self._data: OwnData | None = None  # if this worker reads its replica's data
        self._groups: Memberships | None = None
        self._generation = self._aborted = 0
        self._step: int | None = None  # that the state is of; None during a segment
        self._warned: list[PythonWarning] = []
        PythonWarnings(self._warned.append).listen()
        self._snapshot_began: float | None = None
        self._held: dict[int, dict[int, list[ModuleState]]] = {}  # by block, by step

    def build(
        self,
        model: InCluster[PickledPayload],
        stage: StageContext,
        loss: InCluster[PickledPayload] | None = None,
        metrics: InCluster[PickledPayload] | None = None,
        data: InCluster[PickledPayload] | None = None,
    ) -> tuple[PythonWarning, ...]:
        """Build the layers of a stage from their own seeds, and the head if it is here: step 0.

        model: the packed dfa_core.Model.
        loss, metrics: for a worker that hosts the head, the packed WeightedLoss, and what else
            evaluations measure there.
        data: for a worker that reads its replica's data, the packed shares of all.

        Returns the Python warnings since the last call that returned them, as evaluate() does.
        """
        # set again: Ray runs calls on another thread, and OpenMP's setting is per thread
        torch.set_num_threads(self._threads)
        self._stage, unpacked = stage, model.get().unpack()
        layers = build_layers(unpacked, stage.first, stage.last, stage.rule)
        self._head = None if loss is None else Head(unpacked, loss.get().unpack(), stage.rule)
        self._metrics = {} if metrics is None else metrics.get().unpack()
        if self._data is not None:
            self._data.close()
        self._data = None if data is None else OwnData(data.get(), stage)
        for module in (*layers, *filter(None, [self._head])):
            module.to(self._device)
        self._blocks = _BLOCKS[stage.block_kind]
        self._block, self._step = self._blocks(layers), 0
        return self._take_warnings()

    def join(self, rendezvous: Rendezvous) -> None:
        """Leave the previous groups and join those of this rendezvous."""
        for group in self._joined_groups:
            group.close()
        generation = self._generation = rendezvous.generation
        host = LOOPBACK if rendezvous.host == LOOPBACK else ray.util.get_node_ip_address()
        context = RankContext(host, self._device, lambda: self._aborted >= generation)
        self._groups = join_all(self._stage, rendezvous, context)

    def train(self, generation: int, first: int, last: int, waiting: int) -> SegmentStats:
        """Train steps first..last-1; on any error leave the groups, so that no peer waits.

        waiting: microbatches that may wait for their error at a block, the same for all workers.

        Raises GroupLeft for another generation, or when the state is not that of step `first`.
        """
        groups, delay_s = self._joined(generation), self._snapshot_delay()
        if self._step != first:
            raise GroupLeft(f"cannot train step {first}: the state is of step {self._step}")
        self._step, meter = None, Meter(groups.all)
        try:
            steps = range(first, last)
            with restored_once():
                self._train_segment(groups, steps, waiting)
        except BaseException:
            self._leave()
            raise
        self._step = last
        return replace(
            meter.read(),
            snapshot_s=delay_s,
            skipped=self._skipped(),
            warned=self._take_warnings(),
            data_s=self._data.take_waited() if self._data else 0.0,
        )

    def _train_segment(self, groups: Memberships, steps: range, waiting: int) -> None:
        head, stage, tracer, block = self._head, self._stage, self._tracer, self._block
        if stage.is_head and head is not None:
            head_loop.train_segment(head, stage, groups, tracer, steps, waiting)
        else:
            loop.train_segment(block, head, stage, groups, tracer, steps, waiting, self._data)

    def pass_on(self, generation: int, times: int) -> None:
        """Receive a microbatch's input and send an output, this many times; compute nothing."""
        stage, of_blocks = self._stage, self._joined(generation).of_blocks
        sizes = [stage.samples] * times
        inputs = Inbox(of_blocks, stage.block - 1, stage.arriving.message, sizes, slots=times)
        outputs = Outbox(of_blocks, stage.next_rank)
        for samples in sizes:
            inputs.take()
            outputs.send(stage.leaving.message.empty(samples))
        outputs.finish()

    def evaluate(
        self,
        generation: int,
        sizes: Sequence[int],
        arriving: ActivationSpec,
        leaving: ActivationSpec,
        output: TensorSpec,
        measuring: Measuring | None = None,
    ) -> tuple[list[dict[str, PartReport]], tuple[PythonWarning, ...]]:
        """Run chunks of these sizes forward, in evaluation mode.

        arriving, leaving: the activations that enter the block and that it sends on, of the data
            that is evaluated. output: of the head.
        measuring: the host of the head measures its outputs; otherwise rank 0 gets them.

        Returns the reports of these, and the new Python warnings.
        """
        groups, head = self._joined(generation), self._head
        stage = replace(self._stage, arriving=arriving, leaving=leaving, output=output)
        to: Outbox | MeasuredOutputs | None = None
        if head is not None and measuring is not None:
            to = MeasuredOutputs(head, self._metrics, measuring, groups.of_head, sizes)
        elif head is not None:
            to = Outbox(groups.of_head, to=0)
        try:
            if stage.is_head and head is not None and to is not None:
                head_loop.evaluate_segment(head, stage, groups, sizes, to)
            else:
                loop.evaluate_segment(self._block, head, stage, groups, sizes, to)
        except BaseException:
            self._leave()
            raise
        reports = to.reports if isinstance(to, MeasuredOutputs) else []
        return reports, self._take_warnings()

    @ray.method(num_returns=2)
    def snapshot(self, generation: int, step: int) -> tuple[bool, list[ModuleState]]:
        """Return True and the state of every layer, and of a head here, for the cluster's memory.

        Raises GroupLeft when the state is not that of this step.
        """
        self._joined(generation)
        if self._step != step:
            raise GroupLeft(f"no snapshot of step {step}: the state is of step {self._step}")
        self._snapshot_began = perf_counter()
        return True, pack(self._modules)

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate of everything here at these steps from now on."""
        for module in self._modules:
            module.set_cuts(cuts)

    def restore(
        self, step: int, states: InCluster[list[ModuleState]], cuts: tuple[int, ...]
    ) -> None:
        """Load what snapshot() returned; cut the learning rate at these steps."""
        self._go_back(cuts)
        restore(self._modules, states.get())
        self._step = step

    def save(self, folder: Folder) -> list[StateFile]:
        """Write the state of all modules into the folder."""
        return [write_state(module, folder) for module in self._modules]

    def load(self, step: int, saved: SavedModules, cuts: tuple[int, ...]) -> None:
        """Load the state of all modules from a checkpoint; cut the learning rate at these steps."""
        self._go_back(cuts)
        for module in self._modules:
            module.load_state(*saved.read(module.name))
        self._step = step

    def _go_back(self, cuts: tuple[int, ...]) -> None:
        """Drop what an aborted segment left, and set the cuts of the learning rate."""
        self._step = self._snapshot_began = None
        self._tracer.stop()
        self._block = self._blocks(self._block.layers)
        for module in self._modules:
            module.go_back()
        self.set_cuts(cuts)

    def _snapshot_delay(self) -> float:
        """Return the seconds since the snapshot that was taken just before, or 0."""
        began, self._snapshot_began = self._snapshot_began, None
        return 0.0 if began is None else perf_counter() - began

    def _skipped(self) -> tuple[tuple[int, str], ...]:
        modules = [(module, module.label) for module in self._modules]
        return tuple((step, label) for module, label in modules for step in module.take_skipped())

    def _take_warnings(self) -> tuple[PythonWarning, ...]:
        taken = tuple(self._warned)
        del self._warned[: len(taken)]
        return taken

    def trace(self, profiled: bool) -> None:
        """Start to record what the block computes, and when."""
        self._tracer.start(profiled)

    def recording(self) -> Recording:
        """Stop recording; return what was recorded."""
        return self._tracer.stop()

    @ray.method(concurrency_group="control")
    def reset_peak_memory(self) -> float:
        """Restart the measurement of the peak memory; return what is in use now, MB."""
        return reset_peak()

    @ray.method(concurrency_group="control")
    def peak_memory_mb(self) -> float:
        """Return the peak memory since then, MB."""
        return peak_mb()

    @ray.method(concurrency_group="control")
    def abort(self, generation: int) -> None:
        """Abort a segment that waits for messages, or a join, if it is of this generation."""
        self._aborted = max(self._aborted, generation)
        if self._generation == generation:
            self._leave()

    @ray.method(concurrency_group="control")
    def hold(self, step: int, block: int, states: InCluster[list[ModuleState]]) -> None:
        """Keep another block's snapshot and its previous one in this node's memory."""
        held = self._held.setdefault(block, {})
        held.pop(step, None)
        held[step] = states.get()
        for older in list(held)[:-2]:
            del held[older]

    @ray.method(concurrency_group="control")
    def held(self, step: int, block: int) -> list[ModuleState]:
        """Return another block's snapshot of that step. Raises KeyError if it is not here."""
        return self._held[block][step]

    @ray.method(concurrency_group="control")
    def first_non_finite(self) -> str | None:
        """Name the first layer that holds NaN or infinity, if any."""
        return self._block.first_non_finite()

    @ray.method(concurrency_group="life")
    def sign(self) -> Sign:
        """Return a sign of life; it answers while the worker computes, waits or reads."""
        groups = self._joined_groups
        moved = sum(group.moved() for group in groups)
        return Sign(moved, any(group.waits for group in groups))

    def speed(self) -> float:
        """Return how fast this worker multiplies matrices, in products per second."""
        torch.set_num_threads(self._threads)
        a = torch.ones(_SPEED_WIDTH, _SPEED_WIDTH, device=self._device)
        seconds = []
        for _ in range(_SPEED_TIMES):
            start = perf_counter()
            float((a @ a)[0, 0])  # waits for a GPU
            seconds.append(perf_counter() - start)
        return 1 / median(seconds)

    @ray.method(concurrency_group="control")
    def place(self) -> tuple[int, str, Gpu | None]:
        """Return (process id, node id, GPU), as soon as the actor has started."""
        return os.getpid(), ray.get_runtime_context().get_node_id(), gpu_here()

    @property
    def _modules(self) -> list[Layer | Head]:
        """Return all that learns here: the layers, and the head if this worker hosts it."""
        return [*self._block.layers, *filter(None, [self._head])]

    @property
    def _joined_groups(self) -> list[Group]:
        return [] if self._groups is None else self._groups.all

    def _leave(self) -> None:
        for group in self._joined_groups:
            group.abort()

    def _joined(self, generation: int) -> Memberships:
        if self._groups is None or self._generation != generation:
            raise GroupLeft(f"the worker is in generation {self._generation}, not {generation}")
        return self._groups


# not a decorator, so that type checkers see the class itself
GROUPS = {"control": 2, "life": 1}  # threads that answer while the main one works
BlockActor: Any = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups=GROUPS)(
    BlockWorker
)
