"""Random streams that depend on names alone: every partition draws the same numbers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed from the job's seed and labels such as ("layer", 3)."""
    text = "/".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Seed torch's global generators (initialisation, dropout) inside the `with` statement.

    Afterwards their state is restored, so the caller's own random stream does not change. This
    does what torch.random.fork_rng does in less time: it happens for every layer and microbatch.
    """
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
