"""What each process sends in a step: its network card bounds the step, however fast it computes.

A message to several processes is counted as often as a broadcast along a binary tree sends it from
its root. Sums over copies are counted elsewhere (link.py).
"""

from collections.abc import Sequence
from math import ceil, log2

from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Workload

Ranges = Sequence[tuple[int, int]]


def sending(workload: Workload, shape: Shape, ranges: Ranges, link: Link) -> dict[str, float]:
    """Return the seconds in which each process of errorcast sends what it sends in a step.

    ranges: each block's layers (first, last + 1). A block represents its copies.
    """
    batch, profile, error = workload.batch_size, workload.profile, workload.error_bytes
    of_replica = batch / shape.replicas
    receivers = shape.blocks - (shape.head == "block")
    error_from_root = error * ceil(log2(receivers + 1))
    to_head = error_from_root if shape.head == "coordinator" else profile.target.bytes
    coordinator = profile.between[0].message.bytes + to_head
    sent: dict[str, float] = {"the coordinator's messages": batch * coordinator}
    for k, (_, last) in enumerate(ranges, 1):
        hosts = shape.head == "block" and k == len(ranges)
        out = error_from_root if hosts else profile.between[last].message.bytes
        sent[f"block {k}'s messages"] = of_replica * out
    if shape.heads:
        sent["the heads' messages"] = of_replica / shape.heads * error_from_root
    return {name: size / link.bytes_per_s for name, size in sent.items()}


def pipeline_sending(virtual_stages: int, batch: int, hop_bytes: float, link: Link) -> float:
    """Return the seconds in which a worker of one of torch's schedules sends.

    virtual_stages: of each worker. batch: samples of a replica. hop_bytes: of one sample between
    two stages, which travels on, and whose gradient comes back.
    """
    return 2 * virtual_stages * batch * hop_bytes / link.bytes_per_s
