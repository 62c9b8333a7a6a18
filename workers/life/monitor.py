"""Asks workers for signs of life while somebody waits for their work.

A wait is bounded by these signs, never by how long honest work takes. A worker answers on a thread
of its own, so it answers while it computes, reads data or waits for a message. It does not answer
when it is stopped, dead, or cut off from the network.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from workers.life.sign import RunningClock, Sign, computes

_LONGEST_PERIOD_S = 1.0
_PERIODS = 10  # in the time after which a silent worker counts as hung
_ANSWER_S = 5.0


class Watched(Protocol):
    """A worker: its actor, its process id, and its node."""

    @property
    def actor(self) -> Any:
        """Return the handle of an actor that has sign()."""

    @property
    def process(self) -> int:
        """Return the process id on its node."""

    @property
    def node(self) -> str:
        """Return the id of its node."""


class Monitor:
    """Watches workers during one wait; whoever waits calls look() about once a period."""

    def __init__(self, workers: Mapping[int, Watched], timeout_s: float) -> None:
        """workers: by number; timeout_s: silence after which a worker counts as hung."""
        self.period_s = min(_LONGEST_PERIOD_S, timeout_s / _PERIODS)
        self._workers, self._timeout_s = workers, timeout_s
        self._clock = RunningClock(2 * self.period_s)
        self._now = self._asked_at = 0.0
        self._asked: dict[int, Any] = {}
        self._heard = dict.fromkeys(workers, 0.0)
        self._signs: dict[int, Sign] = {}
        self._state: Hashable = None  # of all workers, since `_since`
        self._since = 0.0

    def look(self) -> None:
        """Take the answers that have come, and ask again once a period."""
        self._now = self._clock.now()
        calls = list(self._asked.values())
        ready = set(ray.wait(calls, num_returns=len(calls), timeout=0)[0]) if calls else set()
        for number, call in list(self._asked.items()):
            if call in ready:
                del self._asked[number]
                self._hear(number, call)
        if self._now - self._asked_at >= self.period_s:
            self._asked_at = self._now
            for number, worker in self._workers.items():
                if number not in self._asked:
                    self._asked[number] = worker.actor.sign.remote()

    def hung(self) -> list[int]:
        """Return the numbers of the workers that have been silent for too long."""
        silent = [n for n, heard in self._heard.items() if self._now - heard >= self._timeout_s]
        for number in silent:
            if _computes(self._workers[number]) or self._has_answered(number):
                self._heard[number] = self._now
        return [number for number in silent if self._heard[number] != self._now]

    def _has_answered(self, number: int) -> bool:
        """Return whether an answer has come since look(): it takes a while to see who computes."""
        call = self._asked.get(number)
        return call is not None and bool(ray.wait([call], timeout=0)[0])

    def still(self, state_of: Callable[[Sign], Hashable | None]) -> bool:
        """Return whether the state of all workers has been the same for too long.

        state_of: of a worker with this sign; None means that it works.
        """
        states = tuple(state_of(self._signs[n]) for n in self._workers if n in self._signs)
        if len(states) < len(self._workers) or None in states or states != self._state:
            self._state, self._since = states, self._now
        return self._now - self._since >= self._timeout_s

    def _hear(self, number: int, call: Any) -> None:
        self._heard[number] = self._now
        try:
            self._signs[number] = ray.get(call)
        except RayError:  # it died: its own calls report that
            self._signs.pop(number, None)


def _computes(worker: Watched) -> bool:
    """Return whether a worker's process uses the CPU, as its node sees it."""
    if worker.node == ray.get_runtime_context().get_node_id():
        return computes(worker.process)
    there = NodeAffinitySchedulingStrategy(worker.node, soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(computes)
    try:
        return bool(ray.get(task.remote(worker.process), timeout=_ANSWER_S))
    except RayError:
        return False
