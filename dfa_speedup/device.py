"""Where a worker's peers compute, and how they wait for it."""

from dataclasses import replace

import torch

from dfa_core.microbatch import Microbatch


def moved(batch: Microbatch, device: torch.device) -> Microbatch:
    """Return a microbatch, or a whole batch, on a device."""
    return replace(batch, x=batch.x.to(device), target=batch.target.to(device))


def finish(device: torch.device) -> None:
    """Wait until a GPU has computed what it was asked to: that is when a step ends."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
