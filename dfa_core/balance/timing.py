"""Times the work of one layer: a warm-up run, then the fastest of a few runs.

Every cost of a layer is measured here, with one warm-up and one statistic. The fastest run counts
because other work on the machine can only make a run slower.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from dfa_core.activations import Activations
from dfa_core.block import Block
from dfa_core.head import Head
from dfa_core.layer import Layer
from dfa_core.microbatch import NOTHING
from dfa_core.seeding import restored_once

T = TypeVar("T")

REPEATS = 3  # runs that count, after one that does not


@dataclass(frozen=True)
class LayerSeconds:
    """Seconds of one layer for one microbatch: its forward, and its local update."""

    forward: float
    update: float

    @property
    def total(self) -> float:
        """Return the seconds of both."""
        return self.forward + self.update


@restored_once()
def time_layer(layer: Layer, x: Activations, error: Tensor) -> LayerSeconds:
    """Time a layer's forward and local update.

    x: the layer's input; error: the global error of the same microbatch. The layer keeps the
    gradients that the updates add up.

    Raises JobError when the layer or its feedback does not fit.
    """
    block = Block([layer])
    # the warm-up draws the feedback matrix and allocates the gradients
    runs = [
        LayerSeconds(
            seconds_of(lambda: block.forward(x, 0, 0)),
            seconds_of(lambda: block.update(error, 0, 0)),
        )
        for _ in range(1 + REPEATS)
    ][1:]
    return LayerSeconds(min(run.forward for run in runs), min(run.update for run in runs))


def error_of(head: Head, h: Activations, target: Tensor) -> Tensor:
    """Return the global error of one microbatch, 0 where its loss weighs nothing."""
    return head.error(h, target, 0, 0, None if head.loss.weigh(target) else NOTHING)[1]


@restored_once()
def time_head(head: Head, h: Activations, target: Tensor) -> float:
    """Return the seconds of the head's forward, loss and backward pass on one microbatch."""
    return fastest(lambda: None, lambda _: error_of(head, h, target))


def fastest(prepare: Callable[[], T], work: Callable[[T], object]) -> float:
    """Return the seconds of the fastest run of `work`; each gets what `prepare` returns for it."""
    found = []
    for _ in range(1 + REPEATS):
        prepared = prepare()
        found.append(seconds_of(lambda prepared=prepared: work(prepared)))  # type: ignore[misc]
    return min(found[1:])


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds of one run, until the GPU is done where there is one."""
    _wait_for_gpu()
    start = perf_counter()
    work()
    _wait_for_gpu()
    return perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
