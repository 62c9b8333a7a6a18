"""Random streams that depend on names alone, so that any partition draws the same numbers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed made of the job's seed and labels such as ("layer", 3)."""
    text = "/".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Make torch's global generator (initialisation, dropout) draw from `seed` inside the block.

    The generator's state is put back, so a caller's own random stream is left alone.
    """
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if on_gpu else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
