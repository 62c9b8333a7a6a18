"""The Ray actor that hosts one layer block."""

import os
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import ray
import torch

from dfa_core import ActivationSpec, Block, build_layers
from dfa_core.graphed_block import GraphedBlock
from dfa_core.seeding import restored_once
from workers.gpu import Gpu, device_here, gpu_here
from workers.groups.group import (
    LOOPBACK,
    Group,
    GroupLeft,
    block_store,
    open_store,
    replica_store,
)
from workers.groups.nccl_group import ring
from workers.groups.transport import RankContext, Rendezvous, join
from workers.life.sign import Sign
from workers.loop import evaluate_segment, train_segment
from workers.machine.memory import peak_mb, reset_peak
from workers.machine.python_warnings import PythonWarning, PythonWarnings
from workers.meter import Meter, SegmentStats
from workers.payload import PickledPayload
from workers.replicas import ReplicaSum
from workers.snapshots import ModuleState, pack, restore
from workers.stage import StageContext
from workers.state_files import SavedModules, StateFile, write_state
from workers.storage import Folder
from workers.trace import Span, Tracer

_SPEED_WIDTH, _SPEED_TIMES = 512, 15  # of the matrices; of the products


class BlockWorker:
    """Hosts the layers of one block; answers calls of the `control` group during a segment."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._device = device_here()
        self._blocks: type[Block] = Block
        self._block = Block([])
        self._tracer = Tracer()
        self._group: Group | None = None  # the coordinator and the blocks of this replica
        self._replicas: Group | None = None  # the replicas of this block, if there are several
        self._generation = self._aborted = 0
        self._step: int | None = None  # that the state is of; None during a segment
        self._warned: list[PythonWarning] = []
        PythonWarnings(self._warned.append).listen()
        self._snapshot_began: float | None = None
        self._held: dict[int, dict[int, list[ModuleState]]] = {}  # by block, by step

    def build(
        self, model: PickledPayload, stage: StageContext, cuda_graphs: bool = False
    ) -> tuple[PythonWarning, ...]:
        """Build the layers of a stage from their own seeds: the state of step 0.

        model: the packed dfa_core.Model.
        cuda_graphs: the block, which is on a GPU, replays what it computes.

        Returns the Python warnings since the last call that returned them, as evaluate() does.
        """
        # set again: Ray runs calls on another thread, and OpenMP's setting is per thread
        torch.set_num_threads(self._threads)
        self._stage, unpacked = stage, model.unpack()
        layers = build_layers(unpacked, stage.first, stage.last, stage.rule)
        for layer in layers:
            layer.to(self._device)
        self._blocks = GraphedBlock if cuda_graphs else Block
        self._block, self._step = self._blocks(layers), 0
        return self._take_warnings()

    def join(self, rendezvous: Rendezvous) -> None:
        """Leave the previous group and join this one; the rank is the number of the block."""
        for group in self._groups:
            group.close()
        stage, self._generation = self._stage, rendezvous.generation
        store = open_store(rendezvous.host, rendezvous.port, rendezvous.world, None)
        host = LOOPBACK if rendezvous.host == LOOPBACK else ray.util.get_node_ip_address()
        generation = rendezvous.generation
        context = RankContext(host, self._device, lambda: self._aborted >= generation)
        transport, block, replica = rendezvous.transport, stage.block, stage.replica
        world, of_replica = stage.blocks + 1, replica_store(store, replica)
        self._group = join(transport, context, block, world, of_replica, ring(world))
        self._replicas = None
        if stage.replicas > 1:
            of_block = block_store(store, block)
            self._replicas = join(transport, context, replica, stage.replicas, of_block)

    def train(self, generation: int, first: int, last: int) -> SegmentStats:
        """Train steps first..last-1; on any error leave the groups, so that no peer waits.

        Raises GroupLeft for another generation, or when the state is not that of step `first`.
        """
        group, delay_s = self._joined(generation), self._snapshot_delay()
        if self._step != first:
            raise GroupLeft(f"cannot train step {first}: the state is of step {self._step}")
        self._step, meter = None, Meter(self._groups)
        replicas = None if self._replicas is None else ReplicaSum(self._replicas)
        try:
            steps = range(first, last)
            with restored_once():
                train_segment(self._block, self._stage, group, replicas, self._tracer, steps)
        except BaseException:
            self._leave()
            raise
        self._step = last
        return replace(
            meter.read(),
            snapshot_s=delay_s,
            skipped=self._skipped(),
            warned=self._take_warnings(),
        )

    def evaluate(
        self,
        generation: int,
        sizes: Sequence[int],
        arriving: ActivationSpec,
        leaving: ActivationSpec,
    ) -> tuple[PythonWarning, ...]:
        """Run chunks of these sizes forward, in evaluation mode.

        arriving, leaving: the activations that enter the block and that it sends on, of the data
            that is evaluated.

        Returns the new Python warnings.
        """
        group = self._joined(generation)
        stage = replace(self._stage, arriving=arriving, leaving=leaving)
        try:
            evaluate_segment(self._block, stage, group, sizes)
        except BaseException:
            self._leave()
            raise
        return self._take_warnings()

    @ray.method(num_returns=2)
    def snapshot(self, generation: int, step: int) -> tuple[bool, list[ModuleState]]:
        """Return True and every layer's state, for the cluster's memory.

        Raises GroupLeft when the state is not that of this step.
        """
        self._joined(generation)
        if self._step != step:
            raise GroupLeft(f"no snapshot of step {step}: the state is of step {self._step}")
        self._snapshot_began = perf_counter()
        return True, pack(self._block.layers)

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate of every layer at these steps from now on."""
        for layer in self._block.layers:
            layer.set_cuts(cuts)

    def restore(self, step: int, states: Sequence[ModuleState], cuts: tuple[int, ...]) -> None:
        """Load every layer's state from a snapshot; cut the learning rate at these steps."""
        self._go_back(cuts)
        restore(self._block.layers, states)
        self._step = step

    def save(self, folder: Folder) -> list[StateFile]:
        """Write every layer's state into the folder."""
        return [write_state(layer, folder) for layer in self._block.layers]

    def load(self, step: int, saved: SavedModules, cuts: tuple[int, ...]) -> None:
        """Load every layer's state from a checkpoint; cut the learning rate at these steps."""
        self._go_back(cuts)
        for layer in self._block.layers:
            layer.load_state(*saved.read(layer.name))
        self._step = step

    def _go_back(self, cuts: tuple[int, ...]) -> None:
        """Drop what an aborted segment left, and set the cuts of the learning rate."""
        self._step = self._snapshot_began = None
        self._tracer.stop()
        self._block = self._blocks(self._block.layers)
        for layer in self._block.layers:
            layer.go_back()
        self.set_cuts(cuts)

    def _snapshot_delay(self) -> float:
        """Return the seconds since the snapshot that was taken just before, or 0."""
        began, self._snapshot_began = self._snapshot_began, None
        return 0.0 if began is None else perf_counter() - began

    def _skipped(self) -> tuple[tuple[int, str], ...]:
        layers = self._block.layers
        return tuple((step, layer.label) for layer in layers for step in layer.take_skipped())

    def _take_warnings(self) -> tuple[PythonWarning, ...]:
        taken = tuple(self._warned)
        del self._warned[: len(taken)]
        return taken

    def trace(self) -> None:
        """Start to record what the block computes, and when."""
        self._tracer.start()

    def spans(self) -> list[Span]:
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
    def hold(self, step: int, block: int, states: list[ModuleState]) -> None:
        """Keep another block's snapshot and its previous one in this node's memory."""
        held = self._held.setdefault(block, {})
        held.pop(step, None)
        held[step] = states
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
        groups = self._groups
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
    def _groups(self) -> list[Group]:
        return [group for group in (self._group, self._replicas) if group is not None]

    def _leave(self) -> None:
        for group in self._groups:
            group.abort()

    def _joined(self, generation: int) -> Group:
        if self._group is None or self._generation != generation:
            raise GroupLeft(f"the worker is in generation {self._generation}, not {generation}")
        return self._group


# not a decorator, so that type checkers see the class itself
GROUPS = {"control": 2, "life": 1}  # threads that answer while the main one works
BlockActor: Any = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups=GROUPS)(
    BlockWorker
)
