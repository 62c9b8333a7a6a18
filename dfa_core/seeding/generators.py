"""The global generators of torch, NumPy and Python, under the job's seeds.

They belong to the whole process. Code that may draw from them runs in drawing_from(), one thread at
a time.
"""

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch

from dfa_core.seeding.derive import derive
from dfa_core.seeding.draws import Draws
from dfa_core.seeding.imports import SeededImports
from dfa_core.seeding.turns import Turns

_TURNS = Turns()


States: TypeAlias = tuple[Any, Any]  # of Python's and NumPy's generators


class _Thread(threading.local):
    saved: list[States] | None = None  # what restored_once() restores: a list of none or one


_THREAD = _Thread()


def drawing_from(seed: int, draws: Draws = Draws.ANYTHING) -> AbstractContextManager[None]:
    """Return a context in which code draws from the global generators, seeded with `seed`.

    Afterwards their states are restored, so the caller's own random streams do not change. One
    thread at a time is in such a context; a thread may enter another one inside.

    draws: what the code may draw from; other generators are left alone, which takes less time.
    """
    return nullcontext() if draws is Draws.NOTHING else _drawing(seed, draws)


def draw_from(seed: int) -> None:
    """Seed the global generators again, inside drawing_from(); other threads may go first."""
    _TURNS.offer()
    for generator in _torch_generators():
        generator.manual_seed(seed)
    _seed_others(seed)


@contextmanager
def restored_once() -> Iterator[None]:
    """Restore NumPy's and Python's generators at the end alone, not after each drawing_from().

    This counts for the calling thread. To read and write their states takes 0.1 ms, longer than a
    small layer's forward. Where nothing draws from them, nothing is read or written.
    """
    before, _THREAD.saved = _THREAD.saved, []
    try:
        yield
    finally:
        saved, _THREAD.saved = _THREAD.saved, before
        if saved:
            with _TURNS:
                _restore_others(*saved[0])


@contextmanager
def _drawing(seed: int, draws: Draws) -> Iterator[None]:
    with _TURNS:
        generators = _torch_generators()
        of_torch = [generator.get_state() for generator in generators]
        try:
            with _others(seed) if draws is Draws.ANYTHING else nullcontext():
                for generator in generators:
                    generator.manual_seed(seed)
                yield
        finally:
            for generator, state in zip(generators, of_torch, strict=True):
                generator.set_state(state)


@contextmanager
def _others(seed: int) -> Iterator[None]:
    """Seed NumPy's and Python's generators; code that we do not know may import modules, too."""
    once = None if _TURNS.is_nested else _THREAD.saved
    states = None if once else _states_of_others()
    if once is not None and states is not None:
        once.append(states)
        states = None
    sys.meta_path.insert(0, _IMPORTS)
    try:
        _seed_others(seed)
        yield
    finally:
        sys.meta_path.remove(_IMPORTS)
        if states is not None:
            _restore_others(*states)


def _states_of_others() -> States:
    return random.getstate(), np.random.get_state()


def _restore_others(of_python: Any, of_numpy: Any) -> None:
    random.setstate(of_python)
    np.random.set_state(of_numpy)


def _seed_others(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _torch_generators() -> list[torch.Generator]:
    """Return the generators of the CPU and of the current GPU.

    torch.random.fork_rng does the same as our use of them in more time: it happens for every layer
    and microbatch.
    """
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    return generators


# where a module is imported, and for which job, must change no number: the seed is its name's alone
_IMPORTS = SeededImports(lambda name: drawing_from(derive(0, "import", name)), _TURNS.is_mine)
