"""Computes figures from the spans of a few steps."""

from collections.abc import Sequence

from workers.trace import Span


def bubble(workers: Sequence[Sequence[Span]]) -> float:
    """Return the mean over the workers of the share of time in which a worker computes nothing.

    Counted from the end of each worker's first optimizer step, when the pipeline is full, to the
    end of its last.
    """
    shares = []
    for spans in workers:
        ends = [span.end for span in spans if span.what == "optimizer"]
        if len(ends) > 1 and ends[-1] > ends[0]:
            busy = sum(s.end - s.start for s in spans if ends[0] <= s.start < ends[-1])
            shares.append(1 - busy / (ends[-1] - ends[0]))
    return sum(shares) / len(shares) if shares else 0.0
