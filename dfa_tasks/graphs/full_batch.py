"""Data whose one batch is the whole graph: all nodes, with targets for some."""

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dfa_tasks.task import Splits


class WholeGraph:
    """A source with one batch: all nodes and their targets."""

    steps_per_epoch = 1

    def __init__(self, nodes: Tensor, target: Tensor) -> None:
        self._batch = nodes, target

    def batch(self, step: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the same batch at every step."""
        return self._batch


def full_batch_splits(train: Tensor, validation: Tensor, test: Tensor) -> Splits:
    """Return splits whose inputs are the numbers of all nodes; targets: (n, ...)."""
    nodes = torch.arange(len(train))
    return Splits(
        train=WholeGraph(nodes, train),
        validation=TensorDataset(nodes, validation),
        test=TensorDataset(nodes, test),
    )
