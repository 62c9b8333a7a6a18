"""The Ray actor of a comparison: hosts errorcast's block and each peer's trainer, in turn.

All sides run in the same process, so each is measured in the same place with the same threads.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import ray
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from dfa_core import Block
from dfa_core.trained import ScalarState, TensorState, TrainedModule
from dfa_speedup.alone import DfaAlone, Limit
from dfa_speedup.device import finish, moved
from dfa_speedup.peers import (
    COMPILED_ONE_PROCESS,
    DDP,
    FSDP2,
    LIMIT_BP,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
    PIPELINES,
)
from dfa_speedup.replica import Replica
from dfa_speedup.sharded_replica import ShardedReplica
from dfa_speedup.shared_modules import SharedModules
from dfa_speedup.simulation.costs import Costs
from dfa_speedup.simulation.measuring import measure_costs
from dfa_speedup.stages import Stages
from dfa_speedup.workload import Configuration, Workload
from workers.actor import GROUPS, BlockWorker
from workers.groups.group import LOOPBACK, UNBOUNDED, open_store
from workers.groups.transport import Rendezvous
from workers.life.sign import Sign, of_thread
from workers.machine.memory import peak_mb, reset_peak
from workers.machine.network import interface_with
from workers.payload import PickledPayload
from workers.trace import Span


class Trainer(Protocol):
    """What one side trains in this process."""

    modules: Sequence[TrainedModule]

    def train(self, first: int, last: int) -> tuple[list[float], list[float]]:
        """Train steps first..last-1; return their seconds, and their losses where known."""

    def close(self) -> None:
        """Stop making batches."""


@dataclass(frozen=True)
class Trained:
    """What a worker reports of some steps: seconds of each, losses, spans of computing."""

    seconds: list[float]
    losses: list[float]
    spans: list[Span]


class BenchWorker(BlockWorker):
    """A BlockWorker that can also train as a peer."""

    _calls_on = 0  # the thread that does what it is asked to

    @ray.method(concurrency_group="life")
    def sign(self) -> Sign:
        """Return a sign of life: torch's peers do not say when they wait, but their thread does."""
        return of_thread(self._calls_on)

    def enter(self, workload: PickledPayload, rendezvous: Rendezvous, rank: int) -> None:
        """Take the workload, and join torch's process-wide default group, which the peers need.

        rendezvous.transport: nccl where each worker has a GPU of its own.
        """
        self._calls_on = threading.get_native_id()
        self._workload: Workload = workload.unpack()
        self._shared = SharedModules(self._workload, self._device)
        self._trainers: dict[Configuration, Trainer] = {}
        self._rank, self._world = rank, rendezvous.world
        cpu = torch.device("cpu")
        self._sends_from = self._device if rendezvous.transport == "nccl" else cpu
        if rendezvous.world > 1:
            near = rendezvous.host == LOOPBACK
            own = interface_with(LOOPBACK if near else ray.util.get_node_ip_address())
            if own is not None:  # gloo itself takes what this machine's name resolves to
                os.environ["GLOO_SOCKET_IFNAME"] = own
            dist.init_process_group(
                rendezvous.transport,
                store=open_store(rendezvous.host, rendezvous.port, rendezvous.world, None),
                rank=rank,
                world_size=rendezvous.world,
                timeout=UNBOUNDED,
            )

    def prepare(self, configuration: Configuration, steps: int) -> tuple[Trained, float]:
        """Build a new trainer of a peer and train `steps` steps; return also the peak memory, MB.

        The peak does not count what the process held before, so it is weights, gradients, optimizer
        state, activations and buffers.
        """
        self.forget()
        before = reset_peak()
        trained = self.train_peer(configuration, 0, steps)
        return trained, peak_mb() - before

    def train_peer(self, configuration: Configuration, first: int, last: int) -> Trained:
        """Train steps first..last-1 of a peer; its trainer is built at the first call."""
        self._calls_on = threading.get_native_id()
        all_threads = self._threads * self._world
        alone = configuration.schedule in (ONE_PROCESS, COMPILED_ONE_PROCESS, ONE_PROCESS_DFA)
        torch.set_num_threads(all_threads if alone else self._threads)
        try:
            if configuration not in self._trainers:
                self._trainers[configuration] = self._build_peer(configuration)
            trainer = self._trainers[configuration]
            if self._device.type == "cpu":  # a GPU computes later than it is asked to
                self._tracer.start()
            seconds, losses = trainer.train(first, last)
            return Trained(seconds, losses, self._tracer.stop().spans)
        finally:
            self._tracer.stop()
            torch.set_num_threads(self._threads)  # for errorcast's block, which comes next

    def _build_peer(self, configuration: Configuration) -> Trainer:
        workload, shared, rank, world = self._workload, self._shared, self._rank, self._world
        schedule = configuration.schedule
        if schedule in PIPELINES:
            return Stages(workload, configuration, rank, world, shared, self._tracer)
        if schedule == DDP:
            return Replica(workload, configuration, rank, world, shared)
        if schedule == FSDP2:
            return ShardedReplica(workload, configuration, rank, world, shared)
        if schedule in (ONE_PROCESS, COMPILED_ONE_PROCESS):
            return Replica(workload, configuration, 0, 1, shared)
        if schedule == ONE_PROCESS_DFA:
            return DfaAlone(workload, configuration, shared)
        return Limit(workload, configuration, shared, "bp" if schedule == LIMIT_BP else "dfa")

    def costs(self, microbatches: int) -> Costs:
        """Measure every layer and the head on one microbatch of a batch that is cut this way."""
        torch.set_num_threads(self._threads)
        source = self._workload.batches(microbatches)
        one = moved(next(iter(source.microbatches(0, 1))), self._device)
        layers, head = self._shared.layers(), self._shared.head(microbatches)
        found = measure_costs(layers, head, one.x, one.target)
        source.close()
        return found

    def flops(self) -> dict[str, int]:
        """Count the floating-point operations of a step of the whole model, by bp and by dfa.

        Those that torch's own counter knows: the products.
        """
        found = {}
        for method, schedule in (("bp", ONE_PROCESS), ("dfa", ONE_PROCESS_DFA)):
            with FlopCounterMode(display=False) as counter:
                self.train_peer(Configuration(schedule, 1), 0, 1)
            found[method] = int(counter.get_total_flops())
        return found

    def round_trip(self, size: int, times: int) -> float:
        """Return the median seconds of a message of `size` bytes between workers 0 and 1."""
        message = torch.empty(size, dtype=torch.uint8, device=self._sends_from)
        seconds = []
        for _ in range(times):
            start = perf_counter()
            for sender in (0, 1):
                if self._rank == sender:
                    dist.send(message, 1 - sender)
                else:
                    dist.recv(message, sender)
            finish(self._sends_from)
            seconds.append((perf_counter() - start) / 2)
        return median(seconds)

    def sum(self, size: int, times: int) -> float:
        """Return the median seconds of a sum over all workers of `size` bytes of numbers."""
        numbers, seconds = torch.zeros(size // 4, device=self._sends_from), []
        for _ in range(times):
            start = perf_counter()
            dist.all_reduce(numbers)
            finish(self._sends_from)
            seconds.append(perf_counter() - start)
        return median(seconds)

    def forget(self) -> None:
        """Drop all peers' trainers, and errorcast's block."""
        for trainer in self._trainers.values():
            trainer.close()
        self._trainers.clear()
        self._shared.clear()
        self._block = Block([])

    def states(self, configuration: Configuration) -> list[tuple[str, TensorState, ScalarState]]:
        """Return (name, tensors, scalars) of every module that a peer trains in this process."""
        return [(m.name, *m.state()) for m in self._trainers[configuration].modules]


BenchActor: Any = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups=GROUPS)(
    BenchWorker
)
