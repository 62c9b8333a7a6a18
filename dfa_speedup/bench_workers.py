"""The K workers of a comparison; all of them restart when one fails."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from dfa_core import JobError, TrainingFailed
from dfa_speedup.bench_worker import BenchActor, Trained
from dfa_speedup.peers import DATA_PARALLEL, LIMIT_DFA_LOADED, PIPELINES
from dfa_speedup.simulation.costs import Costs, mean_costs
from dfa_speedup.simulation.link import Link
from dfa_speedup.workload import Configuration
from workers.grid import Grid
from workers.groups.group import listen, open_store
from workers.groups.transport import Rendezvous, choose
from workers.life.monitor import Monitor
from workers.payload import PickledPayload
from workers.placement import Placement, Worker, WorkerResources, rendezvous_host


class PeerFailed(TrainingFailed):
    """A configuration could not run; the comparison continues without it."""


class WorkersLost(PeerFailed):
    """It could not run because a worker died or hung, which may not have been its fault."""


class BenchWorkers:
    """K workers that run one side after another."""

    def __init__(
        self,
        workload: PickledPayload,
        blocks: int,
        resources: WorkerResources,
        timeout_s: float,
        stop_if_asked: Callable[[], None] = lambda: None,
    ) -> None:
        """Place and start them. Raises JobError when the cluster is too small.

        stop_if_asked: called again and again in each wait; what it raises ends the wait.
        timeout_s: seconds without a sign of life, or without any work of any worker, after which
            they count as hung.
        """
        self._workload, self._blocks, self._resources, self._timeout_s = (
            workload,
            blocks,
            resources,
            timeout_s,
        )
        self.stop_if_asked = stop_if_asked
        self._start()

    @property
    def all(self) -> Sequence[Worker]:
        """Return the workers that run now."""
        return self._placement.workers

    def refusal(self, configuration: Configuration) -> str | None:
        """Return why these workers cannot run a configuration, or None."""
        several = configuration.schedule in (*PIPELINES, *DATA_PARALLEL)
        if several and self.all[0].gpu is not None and self._transport != "nccl":
            return "the workers share a GPU, and NCCL needs one for each; only errorcast can"
        return None

    def train(self, configuration: Configuration, first: int, last: int) -> list[Trained]:
        """Train steps first..last-1 on as many workers as the side uses.

        Raises PeerFailed when a worker fails, after all workers have restarted.
        """
        workers = self._those_of(configuration)
        return self._call("train_peer", workers, configuration, first, last)

    def prepare(self, configuration: Configuration, steps: int) -> tuple[list[Trained], float]:
        """Build the side's trainers again and train; return also the largest peak memory, MB."""
        workers = self._those_of(configuration)
        done = self._call("prepare", workers, configuration, steps)
        return [trained for trained, _ in done], float(max(peak for _, peak in done))

    def costs(self, microbatches: int) -> Costs:
        """Return the costs of all layers: the mean over all workers, which measure at once."""
        found: list[Costs] = self._call("costs", self.all, microbatches)
        return mean_costs(found)

    def flops(self) -> dict[str, int]:
        """Return the floating-point operations of a step, by `bp` and by `dfa`."""
        found: dict[str, int] = self._call("flops", self.all[:1])[0]
        return found

    def link(self) -> Link:
        """Measure latency and bandwidth between two workers, and in a sum over all workers."""
        workers = len(self.all)
        if workers < 2:
            return Link(0.0, float("inf"))
        small, large = 8, 4 << 20
        latency = max(self._call("round_trip", self.all[:2], small, 200))
        seconds = max(self._call("round_trip", self.all[:2], large, 20))
        summing = max(self._call("sum", self.all, large, 20)) - 2 * latency
        summed = 2 * (workers - 1) / workers * large / max(1e-9, summing)
        return Link(latency, large / max(1e-9, seconds - latency), summed)

    def states(self, configuration: Configuration) -> dict[str, Any]:
        """Return the weights of every layer and the head, by name."""
        calls = self._call("states", self._those_of(configuration), configuration)
        return {name: (tensors, scalars) for modules in calls for name, tensors, scalars in modules}

    def forget(self) -> None:
        """Drop what all workers have built."""
        self._call("forget", self.all)

    def renewed(self) -> bool:
        """Start new workers if one has died or hangs; return whether that was so."""
        try:
            self.forget()
        except WorkersLost:
            return True
        return False

    def stop(self) -> None:
        """Give the workers back."""
        self._placement.release()

    def _those_of(self, configuration: Configuration) -> Sequence[Worker]:
        together = configuration.schedule in (*PIPELINES, *DATA_PARALLEL, LIMIT_DFA_LOADED)
        return self.all if together else self.all[:1]

    def _start(self) -> None:
        self._placement = Placement(Grid(self._blocks), self._resources, BenchActor)
        host = rendezvous_host(self.all)
        listener = listen(host)
        port = listener.getsockname()[1]
        self._store = open_store(host, port, self._blocks, listener)
        gpus = [worker.gpu for worker in self.all]
        self._transport = choose("auto", gpus)
        rendezvous = Rendezvous(host, port, self._blocks, self._transport)
        calls = [
            w.actor.enter.remote(self._workload, rendezvous, i) for i, w in enumerate(self.all)
        ]
        try:
            self._results(self.all, calls)
        except RayError as error:
            raise TrainingFailed(f"the workers could not start: {cause_of(error)}") from error

    def _call(self, method: str, workers: Sequence[Worker], *arguments: Any) -> list[Any]:
        calls = [getattr(worker.actor, method).remote(*arguments) for worker in workers]
        try:
            return self._results(workers, calls)
        except (RayError, JobError, TrainingFailed) as error:
            why = cause_of(error)
            self.stop()
            try:
                self._start()
            except JobError as another:  # not of the job: they have run before
                raise TrainingFailed(f"{why}; no new workers: {another}") from error
            lost = isinstance(error, RayActorError | WorkersLost)
            raise (WorkersLost if lost else PeerFailed)(why) from error

    def _results(self, workers: Sequence[Worker], calls: list[Any]) -> list[Any]:
        """Return the results of one call a worker, however long the workers compute.

        Stops at the first failure: the other workers would wait for messages of the failed one.
        """
        monitor = Monitor(dict(enumerate(workers, start=1)), self._timeout_s)
        pending = calls
        while pending:
            done, pending = ray.wait(pending, timeout=monitor.period_s)
            self.stop_if_asked()
            ray.get(done)
            monitor.look()
            hung = monitor.hung()
            if hung:
                raise WorkersLost(f"worker {hung[0]} hangs: no sign of life for {self._limit}")
            if monitor.still(lambda sign: sign.moved if sign.waits else None):
                raise TrainingFailed(f"every worker has waited for another one for {self._limit}")
        results: list[Any] = ray.get(calls)
        return results

    @property
    def _limit(self) -> str:
        return f"{self._timeout_s:g} s"


def cause_of(error: Exception) -> str:
    """Return why a call of a worker failed, in one line."""
    if isinstance(error, RayActorError):
        return "a worker's process died (out of memory?)"
    cause = error.cause if isinstance(error, RayTaskError) else error
    ours = isinstance(cause, JobError | TrainingFailed)
    return " ".join((str(cause) if ours else f"{type(cause).__name__}: {cause}").split())[:300]
