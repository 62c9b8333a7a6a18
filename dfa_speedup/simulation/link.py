"""What messages between workers cost, and sums over replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

from dfa_speedup.simulation.costs import LayerCost


@dataclass(frozen=True)
class Link:
    """A link between any two workers: seconds a message, and bytes a second.

    summed_bytes_per_s: in a sum over replicas, where all workers send at once and add
    what arrives; None: the same as bytes_per_s.
    """

    latency_s: float
    bytes_per_s: float
    summed_bytes_per_s: float | None = None

    def seconds(self, size: float) -> float:
        """Return how long a message of `size` bytes takes."""
        return self.latency_s + size / self.bytes_per_s


def ring(replicas: int, size: float, link: Link) -> float:
    """Return the seconds of a sum over the replicas of a vector of `size` bytes, in a ring."""
    bytes_per_s = link.summed_bytes_per_s or link.bytes_per_s
    return 2 * (replicas - 1) * (link.latency_s + size / replicas / bytes_per_s)


def ordered_sum(copies: int, size: float, link: Link) -> float:
    """Return the seconds of errorcast's sum over copies, in which all messages go at once."""
    bytes_per_s = link.summed_bytes_per_s or link.bytes_per_s
    return 2 * (link.latency_s + (copies - 1) / copies * size / bytes_per_s) if copies > 1 else 0.0


def exposed(block: LayerCost, sums: Sequence[float]) -> float:
    """Return how long the sums over the replicas continue after a block's last update.

    sums: seconds of each layer's sum.

    The sums run one after another, each from the end of its layer's update at the earliest. A
    layer's optimizer step needs only the layer's own sum, so a sum is hidden by the optimizer steps
    of the layers before it.
    """
    each, ended = block.update / len(sums), 0.0
    for index, seconds in enumerate(sums):
        ended = max(ended, each * (index + 1)) + seconds
    hidden = block.optimizer * (len(sums) - 1) / len(sums)
    return max(0.0, ended - block.update - hidden)
