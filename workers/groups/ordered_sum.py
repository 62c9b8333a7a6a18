"""Sums a vector over ranks in the order of the ranks, ((x0 + x1) + x2) + ...

gloo's own sum of more than two ranks adds in an order of its own; this one is what a single process
can compute too. Every rank adds one share of all vectors and sends the sum to the others, so that
the bytes are those of a ring, and each rank adds as much as in one.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, empty_like

Ended = Callable[[], object]  # waits until a message is over
Post = Callable[[Tensor, int, int], Ended]  # (part, other rank, tag): starts to send or receive
_SHARE, _TOTAL = 1, 2  # tags; other messages between two ranks have 0


def add_in_order(vector: Tensor, rank: int, world: int, send: Post, receive: Post) -> None:
    """Replace a contiguous vector by the sum over all ranks; return when all have it.

    Raises what gloo raises when a rank is gone.
    """
    parts, others = vector.view(-1).tensor_split(world), [r for r in range(world) if r != rank]
    own = parts[rank]
    shares = {other: empty_like(own) for other in others} | {rank: own}
    _end([
        *(receive(shares[other], other, _SHARE) for other in others if own.numel()),
        *(send(parts[other], other, _SHARE) for other in others if parts[other].numel()),
    ])  # fmt: skip
    total = shares[0]
    for other in range(1, world):
        total = total + shares[other]
    own.copy_(total)
    _end([
        *(receive(parts[other], other, _TOTAL) for other in others if parts[other].numel()),
        *(send(own, other, _TOTAL) for other in others if own.numel()),
    ])  # fmt: skip


def _end(messages: Sequence[Ended]) -> None:
    for ended in messages:
        ended()
