"""Discrete events: when each action of several workers is done."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple


class TimedAction(NamedTuple):
    """One action of a worker: its seconds, and the events it needs with their messages' delay."""

    done: Hashable
    seconds: float
    needs: tuple[tuple[Hashable, float], ...] = ()


def run(workers: Sequence[Iterator[TimedAction]]) -> dict[Hashable, float]:
    """Run all workers to their end; return when each event happened, in seconds from the start.

    A worker does its actions in order, each as soon as the events that it needs have happened and
    their messages have arrived.

    Raises RuntimeError when workers wait for one another for ever.
    """
    at: dict[Hashable, float] = {}
    free = [0.0] * len(workers)
    next_of = [next(actions, None) for actions in workers]
    moved = True
    while moved:
        moved = False
        for k, actions in enumerate(workers):
            action = next_of[k]
            while action is not None and (ready := _ready(action, at)) is not None:
                at[action.done] = free[k] = max(free[k], ready) + action.seconds
                action = next(actions, None)
                moved = True
            next_of[k] = action
    if any(action is not None for action in next_of):
        raise RuntimeError("the schedule is in deadlock")
    return at


def _ready(action: TimedAction, at: Mapping[Hashable, float]) -> float | None:
    """Return when the last message that an action needs arrives; None while one is not sent."""
    ready = 0.0
    for event, delay in action.needs:
        sent = at.get(event)
        if sent is None:
            return None
        ready = max(ready, sent + delay)
    return ready
