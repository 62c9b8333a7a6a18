"""The GPU that Ray assigned to this process, if any."""

from dataclasses import dataclass

import ray
import torch


@dataclass(frozen=True)
class Gpu:
    """A GPU: its unique identity, its memory in bytes, and its model's name."""

    identity: str
    memory: float
    name: str = ""


def device_here() -> torch.device:
    """Return where this actor computes; Ray hides all GPUs but its own from it."""
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def gpu_here() -> Gpu | None:
    """Return this actor's GPU; actors that share one return the same identity."""
    if device_here().type == "cpu":
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu(str(found.uuid), float(found.total_memory), str(found.name))


def gpus_of_this_node() -> float:
    """Return the number of GPUs on the caller's node that Ray knows of, used or not."""
    here = ray.get_runtime_context().get_node_id()
    of_nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes()}
    return float(of_nodes[here].get("GPU", 0.0))
