"""The GPU that Ray gave this process, if it gave one."""

from dataclasses import dataclass

import ray
import torch


@dataclass(frozen=True)
class Gpu:
    """A GPU: which one it is of all, and its memory in bytes."""

    identity: str
    memory: float


def device_here() -> torch.device:
    """Return where this actor computes; Ray shows it no GPU but its own."""
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def gpu_here() -> Gpu | None:
    """Return this actor's GPU; actors that share one name the same."""
    if device_here().type == "cpu":
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu(str(found.uuid), float(found.total_memory))


def gpus_of_this_node() -> float:
    """Return the GPUs that Ray counts on the caller's node, used or not."""
    here = ray.get_runtime_context().get_node_id()
    of_nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes()}
    return float(of_nodes[here].get("GPU", 0.0))
