"""Plans a job, feeds the data, owns head and loss, broadcasts the error.

Read loop.py first: it is what the coordinator does in a step.
"""

from coordinator.train import Run, train

__all__ = ["Run", "train"]
