"""The Ray actor that hosts one layer block."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import cloudpickle

from dfa_core import Block, LearningRule, Model, build_layers
from workers.group import LOOPBACK, Group, GroupLeft, open_store
from workers.loop import SegmentStats, Wiring, evaluate_segment, train_segment
from workers.memory import peak_mb, reset_peak
from workers.state_files import StateFile, read_state, write_state
from workers.trace import Span, TracedBlock


@dataclass(frozen=True)
class Shipment:
    """Something of the user's, pickled by the driver, and the folders its modules lie in.

    The folders go to the end of a worker's path: a workers.py or coordinator.py that happens to lie
    in one of them must not take the place of ours.
    """

    pickled: bytes
    folders: tuple[str, ...]

    @classmethod
    def pack(cls, thing: Any, folders: Sequence[str] = ()) -> "Shipment":
        """Pickle something in the driver, for its own actors."""
        return cls(cloudpickle.dumps(thing), tuple(folders))

    def unpack(self) -> Any:
        """Unpickle it in an actor of the same driver."""
        sys.path.extend(f for f in self.folders if f not in sys.path)
        return cloudpickle.loads(self.pickled)


@dataclass(frozen=True)
class Meeting:
    """Where the ranks of one group meet: rank 0's store, and the longest wait for a message."""

    host: str
    port: int
    world: int
    timeout_s: float


class BlockWorker:
    """Hosts the layers of one block; calls of the `control` group are answered during a segment."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._block = Block([])
        self._group: Group | None = None

    def build(self, model: Shipment, first: int, last: int, rule: LearningRule) -> None:
        """Build layers first..last-1 here, from their own seeds."""
        # set again: Ray runs calls on a thread of their own, and OpenMP keeps the number by thread
        torch.set_num_threads(self._threads)
        whole: Model = model.unpack()
        layers = build_layers(whole, first, last, rule)
        for layer in layers:
            layer.module.to(self._device)
        self._block = Block(layers)

    def join(self, meeting: Meeting, wiring: Wiring) -> None:
        """Join the group as rank `wiring.block`."""
        self._wiring = wiring
        store = open_store(meeting.host, meeting.port, meeting.world, None)
        host = LOOPBACK if meeting.host == LOOPBACK else ray.util.get_node_ip_address()
        self._group = Group(store, wiring.block, meeting.world, host, meeting.timeout_s)

    def train(self, first: int, last: int) -> SegmentStats:
        """Train steps first..last-1; on any error leave the group, so that no peer waits."""
        group = self._joined()
        try:
            return train_segment(self._block, group, self._wiring, self._device, first, last)
        except BaseException:
            group.abort()
            raise

    def evaluate(self, sizes: Sequence[int]) -> None:
        """Run parts of these sizes forward."""
        group = self._joined()
        try:
            evaluate_segment(self._block, group, self._wiring, self._device, sizes)
        except BaseException:
            group.abort()
            raise

    def save(self, folder: Path) -> list[StateFile]:
        """Write every layer's state into the folder."""
        return [write_state(layer, folder) for layer in self._block.layers]

    def load(self, folder: Path) -> None:
        """Take every layer's state from the folder."""
        for layer in self._block.layers:
            layer.load_state(*read_state(folder, layer.name))

    def trace(self) -> None:
        """Begin to note what the block computes, and when."""
        self._block = TracedBlock(self._block)

    def spans(self) -> list[Span]:
        """End the tracing; return what was noted."""
        traced = self._block
        if not isinstance(traced, TracedBlock):
            return []
        self._block = Block(traced.layers)
        return traced.spans

    @ray.method(concurrency_group="control")
    def reset_peak_memory(self) -> float:
        """Begin to measure the peak memory anew; return what is in use now, MB."""
        return reset_peak()

    @ray.method(concurrency_group="control")
    def peak_memory_mb(self) -> float:
        """Return the most memory that was in use since then, MB."""
        return peak_mb()

    @ray.method(concurrency_group="control")
    def abort(self) -> None:
        """Break off a segment that waits for messages."""
        if self._group is not None:
            self._group.abort()

    @ray.method(concurrency_group="control")
    def first_non_finite(self) -> str | None:
        """Name the first layer that holds NaN or infinity, if any."""
        return self._block.first_non_finite()

    @ray.method(concurrency_group="control")
    def place(self) -> tuple[int, str]:
        """Return (process id, node id); answered as soon as the actor is up."""
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def _joined(self) -> Group:
        if self._group is None:
            raise GroupLeft("this worker has joined no group")
        return self._group


# applied so, and not as a decorator, to leave the class itself to type checkers
BlockActor: Any = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"control": 2})(
    BlockWorker
)
