"""A task that draws from the global generators wherever a user's code can."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset, random_split

from dfa_core import Model
from dfa_tasks import Splits, Task

FEATURES = 8


class Augmented(Dataset[Any]):
    """Noise of all three generators on each sample, drawn when it is read."""

    def __init__(self, data: Subset[Any]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, target = self._data[index]
        noise = torch.randn(FEATURES) * random.random() + float(np.random.randn())
        return x + 0.1 * noise, target


class Noisy(nn.Module):
    """A layer with noise of all three generators in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(FEATURES, 16)

    def forward(self, x: Tensor) -> Tensor:
        noise = random.gauss(0, 1) + float(np.random.randn()) + torch.randn(())
        h = torch.tanh(self.map(x) + 0.1 * noise)
        if h.requires_grad:  # noise on gradients
            h.register_hook(lambda gradient: gradient * (1 + 0.1 * random.random()))
        return h


def data() -> Splits:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, FEATURES, generator=generator)
    target = (x[:, 0] > 0).long()
    train, test = random_split(TensorDataset(x, target), [0.8, 0.2])
    return Splits(Augmented(train), Augmented(test))


def head() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 2))


def noisy_loss(output: Tensor, target: Tensor) -> Tensor:
    smoothing = 0.1 * random.random() * float(np.random.rand())
    return nn.functional.cross_entropy(output, target, label_smoothing=smoothing)


def make_task() -> Task:
    weight = torch.randn(16, 16)  # drawn here, once

    def middle() -> nn.Module:
        layer = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.2))
        with torch.no_grad():
            layer[0].weight.copy_(weight * 0.3)
        return layer

    return Task(
        Model((Noisy, middle), head),
        noisy_loss,
        data,
        defaults={"batch_size": 16, "microbatches": 4, "epochs": 4, "log_every": 1},
    )


def make_sequential() -> Task:
    """Return a ready nn.Sequential, whose weights are drawn here."""
    net = nn.Sequential(
        *(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.3)),
        nn.Linear(16, 2),
    )
    return Task(net, nn.functional.cross_entropy, data, defaults={"batch_size": 16, "epochs": 4})
